"""Simulate common mistakes of image pipelines, to find those that explain a pipeline's outputs.

:class:`Simulator` computes what other filters, crops, channel orders, scales and decoders make of the golden images, to
compare a pipeline's outputs with. It needs numpy, Pillow and runtime.py.
"""

# ruff: noqa: B905 - zip(strict=...) is not in Python 3.9, which runs this file
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
from PIL import Image, ImageOps

try:
    from . import runtime
except ImportError:  # beside runtime.py in an artifact
    import runtime  # type: ignore[no-redef]

Json = dict[str, Any]
Array = np.ndarray
AS_TOLD = 'as in model.json'
ORDERS: dict[tuple[int, ...], str] = {
    (0, 1, 2): 'RGB',
    (2, 1, 0): 'BGR',
    (0, 2, 1): 'RBG',
    (1, 0, 2): 'GRB',
    (1, 2, 0): 'GBR',
    (2, 0, 1): 'BRG',
}
STATISTICS = {
    'of ImageNet': ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    'of Inception, 0.5': ((0.5,) * 3, (0.5,) * 3),
    'of CLIP': ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    'of CIFAR-10': ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    'of CIFAR-10 (std of 0.2)': ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    'of MNIST': ((0.1307,) * 3, (0.3081,) * 3),
    'of DPN': ((124 / 255, 117 / 255, 104 / 255), (1 / 0.0167 / 255,) * 3),
}


class Finding(NamedTuple):
    """A mismatch between a user's code and the artifact.

    Args:
        name: The kind of mismatch, in a word or two.
        message: What was found, and what to change.
        images: The golden images that are affected.
        difference: The size of the difference; its unit is in the message.
    """

    name: str
    message: str
    images: tuple[str, ...] = ()
    difference: Optional[float] = None


class Golden(NamedTuple):
    """A golden image: its path, its special properties, and the network's input, uint8 (h, w, C)."""

    path: str
    traits: tuple[str, ...]
    input: Array

    @property
    def name(self) -> str:
        """The name of the file."""
        return os.path.basename(self.path)


def traits(path: str) -> tuple[str, ...]:
    """Return the properties of an image file (EXIF orientation, alpha, ...) that wrong pipelines mishandle."""
    with Image.open(path) as image:
        found = ['JPEG' if image.format in ('JPEG', 'MPO') else str(image.format)]
        if image.getexif().get(0x0112, 1) not in (0, 1):
            found.append('EXIF orientation')
        if image.mode in ('LA', 'La', 'PA', 'RGBA', 'RGBa') or 'transparency' in image.info:
            found.append('transparency')
        if image.mode in ('P', 'PA'):
            found.append('palette')
        if image.mode == 'CMYK':
            found.append('CMYK')
        if image.mode in ('L', 'LA', '1') or image.mode.startswith('I'):
            found.append('grey')
        with open(path, 'rb') as file:
            head = file.read(26)
        if image.mode.startswith('I') or (image.format == 'PNG' and head[24] == 16):
            found.append('16 bits')
        return tuple(found)


# Filters and geometries: each is a function of a decoded image


class Filter(NamedTuple):
    """A resizing method: the filter, and whether it is antialiased."""

    filter: str
    library: str
    text: str
    antialias: bool

    def apply(
        self, image: Array, height: int, width: int, box: Optional[tuple[float, float, float, float]] = None
    ) -> Array:
        """Resize an image, uint8 (H, W, 3), or a box of it (left, top, right, bottom)."""
        if box is not None and self.library == 'pillow':
            code = getattr(Image.Resampling, self.filter.upper())
            return np.asarray(Image.fromarray(image).resize((width, height), code, box=box))
        if box is not None:
            left, top, right, bottom = (round(side) for side in box)
            image = np.ascontiguousarray(image[top:bottom, left:right])
        if self.library == 'corners':
            return _align_corners(image, height, width)
        step = {'filter': self.filter, 'library': self.library, 'arithmetic': 'float'}
        return runtime.resize(image, height, width, step)


FILTERS = (
    Filter('nearest', 'pillow', 'nearest', False),
    Filter('nearest', 'cv2', 'nearest, rounding down', False),
    Filter('box', 'pillow', 'box (area)', True),
    Filter('area', 'cv2', 'area', True),
    Filter('bilinear', 'pillow', 'bilinear with antialiasing', True),
    Filter('hamming', 'pillow', 'hamming', True),
    Filter('bicubic', 'pillow', 'bicubic with antialiasing', True),
    Filter('lanczos', 'pillow', 'lanczos with antialiasing', True),
    Filter('bilinear', 'cv2', 'bilinear without antialiasing', False),
    Filter('bicubic', 'cv2', 'bicubic without antialiasing', False),
    Filter('bilinear', 'corners', 'bilinear with align_corners', False),
)


def _align_corners(image: Array, height: int, width: int) -> Array:
    """Resize bilinearly with aligned corners."""
    for axis, size in enumerate((height, width)):
        has = image.shape[axis]
        place = np.linspace(0, has - 1, size) if size > 1 else np.zeros(1)
        low = np.minimum(place.astype(int), max(has - 2, 0))
        share = (place - low).reshape([-1 if one == axis else 1 for one in range(3)])
        high = np.minimum(low + 1, has - 1)
        image = image.take(low, axis) * (1 - share) + image.take(high, axis) * share
    return np.rint(image).astype(np.uint8)


Resize = Callable[..., Array]
"""A function from an image, a height and a width (and a box) to an image."""


class Geometry(NamedTuple):
    """A sequence of resizing and cropping from a decoded image to the network's size.

    Args:
        name: Name of the mistake; empty if this is not one (another rounding, for example).
        text: What it does.
        run: Function from an image and a resizing method to (h, w, C); NaN where it pads.
    """

    name: str
    text: str
    run: Callable[[Array, Resize], Array]


def _right(steps: Sequence[Json], image: Array, resize: Resize) -> Array:
    """Apply the sidecar's steps with another resizing method."""
    for step in steps:
        height, width = image.shape[:2]
        if step['op'] == 'center_crop':
            image = _crop(image, *step['size'])
        elif step['op'] == 'resize':
            image = resize(image, *step['size'])
        else:
            image = resize(image, *_edge_size(step, height, width, int))
    return image


def _edge_size(step: Json, height: int, width: int, round_: Callable) -> tuple[int, int]:
    size = step['size']
    edge = step['edge']
    if edge == 'cover':
        edge = 'height' if width * size[0] >= height * size[1] else 'width'
        size = size[0] if edge == 'height' else size[1]
    if edge == 'width' or (edge == 'short' and width < height) or (edge == 'long' and width > height):
        return max(1, int(round_(size * height / width))), size
    return size, max(1, int(round_(size * width / height)))


def _crop(
    image: Array, height: int, width: int, place: Callable[[float], float] = round, aside: tuple[int, int] = (0, 0)
) -> Array:
    """Crop the middle; pixels outside of the image are NaN."""
    has_height, has_width = image.shape[:2]
    if has_height < height or has_width < width:
        canvas = np.full((max(height, has_height), max(width, has_width), image.shape[2]), np.nan)
        top, left = (-int(place((has - new) / 2)) for has, new in zip((has_height, has_width), canvas.shape))
        canvas[top : top + has_height, left : left + has_width] = image
        image, (has_height, has_width) = canvas, canvas.shape[:2]
    top, left = (
        min(max(int(place((has - new) / 2)) + move, 0), has - new)
        for has, new, move in ((has_height, height, aside[0]), (has_width, width, aside[1]))
    )
    return image[top : top + height, left : left + width]


def _covering(
    resized: tuple[int, int],
    height: int,
    width: int,
    round_: Callable = int,
    place: Callable = round,
    aside: tuple[int, int] = (0, 0),
) -> Callable[[Array, Resize], Array]:
    """Resize to cover (height, width), keeping the aspect ratio, and crop the middle, moved by ``aside``."""

    def run(image: Array, resize: Resize) -> Array:
        size = _edge_size({'edge': 'cover', 'size': resized}, image.shape[0], image.shape[1], round_)
        return _crop(resize(image, *size), height, width, place, aside)

    return run


def _cropped_first(
    share: tuple[float, float], height: int, width: int, round_: Callable
) -> Callable[[Array, Resize], Array]:
    """Crop a share of the image at the network's aspect ratio, then resize it."""

    def run(image: Array, resize: Resize) -> Array:
        has = image.shape[:2]
        scale = min(has[0] / height, has[1] / width)
        tall, wide = (max(1.0, float(round_(one * scale * size))) for one, size in zip(share, (height, width)))
        left, top = (has[1] - wide) / 2, (has[0] - tall) / 2
        if round_ is not float:
            left, top = int(left), int(top)
        return resize(image, height, width, box=(left, top, left + wide, top + tall))

    return run


def _cropped(height: int, width: int, place: Callable) -> Callable[[Array, Resize], Array]:
    return lambda image, resize: _crop(image, height, width, place)


def _letterbox(
    height: int, width: int, round_: Callable, place: Optional[Callable]
) -> Callable[[Array, Resize], Array]:
    """Resize, keeping the aspect ratio, and pad; ``place`` rounds the offset of a centred image; None: upper left."""

    def run(image: Array, resize: Resize) -> Array:
        has = image.shape[:2]
        scale = min(height / has[0], width / has[1])
        inner = [max(1, int(round_(one * scale))) for one in has]
        canvas = np.full((height, width, image.shape[2]), np.nan)
        top, left = (int(place((all_ - one) / 2)) if place else 0 for all_, one in zip((height, width), inner))
        canvas[top : top + inner[0], left : left + inner[1]] = resize(image, *inner)
        return canvas

    return run


def geometries(steps: Sequence[Json], height: int, width: int) -> list[Geometry]:
    """Return geometries that lead to the network's size; the first one, and those without a name, are right."""

    def whole(image: Array, resize: Resize) -> Array:
        return resize(image, height, width)

    place: Any
    round_: Any
    found = [Geometry('', AS_TOLD, lambda image, resize: _right(steps, image, resize))]
    resized = covered_size(steps)
    if resized is not None:
        for round_ in (int, round, np.ceil):
            for place in (round, np.floor, np.ceil):
                way = _covering(resized, height, width, round_, place)
                found.append(Geometry('', 'as in model.json but for the rounding', way))
    if [step['op'] for step in steps] != ['resize']:
        found.append(Geometry('no crop', f'resizes the whole image to {width} x {height}, without cropping', whole))
    for ratio in (1.0, 0.875, 0.9, 0.95, 0.96, 0.98, 0.92, 0.85, 0.8, 0.75, 0.7):
        target = (int(height / ratio), int(width / ratio))
        if target != resized:
            found.append(covering_geometry(target, height, width))
    for round_, place in itertools.product((round, int), (round, math.floor, math.ceil, None)):
        text = f'keeps the aspect ratio and pads {"on both sides" if place else "right and below"} (letterbox)'
        found.append(Geometry('padding', text, _letterbox(height, width, round_, place)))
    for place in (math.floor, math.ceil, int, round):
        text = f'crops {width} x {height} pixels without resizing'
        found.append(Geometry('no resize', text, _cropped(height, width, place)))
    if resized is not None:
        upper = _covering(resized, height, width, int, lambda margin: 0)
        found.append(Geometry('crop position', 'crops the upper left part', upper))
        for down, right in itertools.product((-1, 0, 1), repeat=2):
            if down or right:
                text = f'crops {down} pixels below the middle and {right} to the right of it'
                way = _covering(resized, height, width, int, round, (down, right))
                found.append(Geometry('crop position', text, way))
        share = (height / resized[0], width / resized[1])
        for round_ in (int, round, float):
            way = _cropped_first(share, height, width, round_)
            found.append(Geometry('crop order', 'crops first and resizes then', way))
    return found


def covered_size(steps: Sequence[Json]) -> Optional[tuple[int, int]]:
    """Return (height, width) to which a sidecar resizes before cropping, keeping the aspect ratio; else None."""
    for step in steps:
        if step['op'] == 'resize_edge' and step['edge'] in ('cover', 'short'):
            size = step['size']
            return (size, size) if isinstance(size, int) else (size[0], size[1])
    return None


def covering_geometry(resized: tuple[int, int], height: int, width: int) -> Geometry:
    """Return the geometry that resizes to another size and crops the middle."""
    text = f'resizes the shorter edge to {resized[0]} and crops {height} (crop ratio {height / resized[0]:.3f})'
    return Geometry('crop ratio', text, _covering(resized, height, width))


# Decoding mistakes


def decodings(path: str, background: Optional[Sequence[int]]) -> Iterator[tuple[str, str, Array]]:
    """Yield (name, description, uint8 (H, W, 3)) of each decoding mistake that is possible with a file."""
    special = traits(path)
    with Image.open(path) as opened:
        opened.load()
        image = ImageOps.exif_transpose(opened)
        if 'EXIF orientation' in special:
            yield 'exif', 'ignores the EXIF orientation', _flattened(opened, background)
        if 'transparency' in special:
            for name, color in (
                ('black', (0, 0, 0)),
                ('white', (255, 255, 255)),
                ('grey', (128, 128, 128)),
                ('', None),
            ):
                if (color is None and background is not None) or (
                    color is not None and list(color) != list(background or ())
                ):
                    what = (
                        f'puts transparency on {name}'
                        if name
                        else 'drops the alpha channel (the stored colours appear)'
                    )
                    yield 'alpha', what, _flattened(image, color)
        if image.mode == 'CMYK':
            inks = np.asarray(image)
            yield (
                'cmyk',
                'uses the CMYK values as they are stored, inverted',
                np.asarray(Image.fromarray(255 - inks, 'CMYK').convert('RGB')),
            )
            yield 'cmyk', 'uses cyan, magenta and yellow as red, green and blue', np.ascontiguousarray(inks[..., :3])
            yield 'cmyk', 'uses inverted cyan, magenta and yellow, without black', 255 - inks[..., :3]
        if image.mode == 'P':
            yield 'palette', 'uses the indices of the palette as grey values', _grey(np.asarray(image))
        if '16 bits' in special and image.mode.startswith('I'):
            deep = np.asarray(image).astype(np.int64)
            yield '16 bits', 'clips 16 bits at 255', _grey(np.clip(deep, 0, 255))
            yield '16 bits', 'keeps the lower 8 of 16 bits', _grey(deep & 255)
        if 'grey' not in special:
            yield (
                'grey',
                'makes images grey',
                _grey(np.asarray(Image.fromarray(_flattened(image, background)).convert('L'))),
            )
        else:
            level = _flattened(image, background)[..., :1]
            yield (
                'grey',
                'puts grey into the first channel only',
                np.concatenate([level, level * 0, level * 0], axis=2),
            )
    if 'JPEG' in special:
        for scale in (2, 4, 8):
            with Image.open(path) as small:
                if min(small.size) >= scale:
                    small.draft(None, (small.size[0] // scale, small.size[1] // scale))
                    text = f'decodes JPEG at 1 / {scale} of the size (draft mode)'
                    yield 'JPEG decoder', text, _flattened(ImageOps.exif_transpose(small), background)


def _grey(values: Array) -> Array:
    return np.repeat(values[..., None].astype(np.uint8), 3, axis=2)


def _flattened(image: Image.Image, background: Optional[Sequence[int]]) -> Array:
    """Return three channels of 8 bits on a background (None: transparent pixels keep their stored colours)."""
    if image.mode.startswith('I'):
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).astype(np.uint8))
    if image.mode in ('LA', 'La', 'PA', 'RGBA', 'RGBa') or 'transparency' in image.info:
        image = image.convert('RGBA')
        if background is None:
            return np.asarray(image)[..., :3]
        canvas = Image.new('RGB', image.size, tuple(background))
        canvas.paste(image, mask=image.getchannel('A'))
        image = canvas
    return np.asarray(image.convert('RGB'))


# Pipelines


class Pipeline(NamedTuple):
    """A simulated pipeline from a decoded image to the network's input.

    Args:
        geometry: Resizing and cropping to the network's size.
        filter: Resizing method; None: that of model.json.
        order: Order of the channels; None: RGB.
        grey: Whether colours are lost.
        fill: Value of the padding.
        turn: Flip or rotation that is applied last.
    """

    geometry: Geometry
    filter: Optional[Filter] = None
    order: Optional[tuple[int, ...]] = None
    grey: bool = False
    fill: Optional[int] = None
    turn: Optional[Callable[[Array], Array]] = None

    def run(self, image: Array, steps: Sequence[Json]) -> Array:
        """Return the output (h, w, C); padding is NaN unless there is a ``fill``."""
        if self.grey:
            image = _grey(np.asarray(Image.fromarray(image).convert('L')))
        own = next((step for step in steps if 'filter' in step), None)

        def as_told(
            pixels: Array, height: int, width: int, box: Optional[tuple[float, float, float, float]] = None
        ) -> Array:
            if own is None:
                return pixels
            if box is not None:
                return _filter_of(own).apply(pixels, height, width, box)
            return runtime.resize(pixels, height, width, own)

        pixels = self.geometry.run(image, as_told if self.filter is None else self.filter.apply)
        if self.fill is not None:
            pixels = np.where(np.isnan(pixels), self.fill, pixels)
        return self.finished(pixels)

    def finished(self, pixels: Array) -> Array:
        """Reorder the channels and flip or rotate an image that has the network's size."""
        if self.order is not None:
            pixels = pixels[..., list(self.order)]
        return pixels if self.turn is None else self.turn(pixels)

    @property
    def mistakes(self) -> int:
        """The number of mistakes."""
        return bool(self.geometry.name) + (self.filter is not None)

    def joined(self, other: 'Pipeline') -> Optional['Pipeline']:
        """Return a pipeline with the mistakes of both, if they are of different kinds; else None."""
        mine, theirs = self._asdict(), other._asdict()
        for key in Pipeline._fields[1:]:
            if mine[key] and theirs[key]:
                return None
        if self.geometry.text != AS_TOLD and other.geometry.text != AS_TOLD:
            return None
        merged = {key: theirs[key] if mine[key] in (None, False) else mine[key] for key in mine}
        merged['geometry'] = other.geometry if self.geometry.text == AS_TOLD else self.geometry
        return Pipeline(**merged)


ADVICE = {
    'exif': 'Apply it, with ImageOps.exif_transpose(image) of Pillow',
    'alpha': 'Put transparent images on the background of model.json, preprocessing.decode.background',
    'cmyk': "Convert with Pillow: image.convert('RGB')",
    'grey': "Repeat grey images in three channels and keep colours, with image.convert('RGB')",
    'palette': "Convert with Pillow: image.convert('RGB')",
    '16 bits': 'Scale them: divide by 257 and round',
    'JPEG decoder': 'Decode at full size',
}


class Simulator:
    """Simulate right and wrong pipelines on the golden images.

    Args:
        goldens: The golden images.
        sidecar: The content of model.json.
    """

    def __init__(self, goldens: Sequence[Golden], sidecar: Json) -> None:
        self.goldens = list(goldens)
        self.height, self.width, self.channels = sidecar['model']['input']['shape'][1:]
        self.decode = sidecar['preprocessing']['decode']
        self.steps: list[Json] = sidecar['preprocessing']['steps']
        self.normalization = normalizations(sidecar)
        self._read: dict[str, Array] = {}
        self._seen: dict[tuple, tuple[Pipeline, Array]] = {}  # by identity of what is kept with it
        self.right_size = True
        self.geometries = geometries(self.steps, self.height, self.width)

    def resized(self, height: int, width: int) -> None:
        """Simulate pipelines with another output size from now on."""
        self.steps = [_scaled(step, height / self.height, width / self.width) for step in self.steps]
        self.height, self.width, self.right_size = height, width, False
        self.geometries = geometries(self.steps, height, width)

    @property
    def right_pipeline(self) -> Pipeline:
        """The pipeline of model.json."""
        return Pipeline(self.geometries[0])

    @property
    def own_step(self) -> Json:
        """The resizing step of model.json; empty if there is none."""
        return next((step for step in self.steps if 'filter' in step), {})

    @property
    def other_filters(self) -> list[Filter]:
        """All resizing methods except that of model.json."""
        own = (self.own_step.get('filter'), self.own_step.get('library'))
        return [one for one in FILTERS if (one.filter, one.library) != own]

    def read(self, golden: Golden) -> Array:
        """Return a golden image as model.json decodes it."""
        if golden.path not in self._read:
            self._read[golden.path] = runtime.read_image(golden.path, self.decode)
        return self._read[golden.path]

    def golden(self, name: str) -> Golden:
        """Return a golden image by its name."""
        return next(golden for golden in self.goldens if golden.name == name)

    def simulate(self, name: str, pipeline: Pipeline) -> Array:
        """Return the output of a pipeline for a golden image, (h, w, C)."""
        golden = self.golden(name)
        if pipeline[1:] == (None, None, False, None, None) and pipeline.geometry.text == AS_TOLD and self.right_size:
            return golden.input
        key = name, *map(id, pipeline[:2]), pipeline.grey, pipeline.fill
        if key not in self._seen:
            if len(self._seen) > 1000:
                self._seen.clear()
            plain = pipeline._replace(order=None, turn=None)
            self._seen[key] = pipeline, plain.run(self.read(golden), self.steps)
        return pipeline.finished(self._seen[key][1])

    def batch(self, names: Sequence[str], pipeline: Pipeline) -> Array:
        """Return the output of a pipeline for golden images as the graph takes it, uint8 (N, h, w, C)."""
        images = [self.simulate(name, pipeline) for name in names]
        return np.stack([np.nan_to_num(image).astype(np.uint8) for image in images])

    def decoded(self, name: str, pipeline: Pipeline) -> Iterator[tuple[str, str, Array]]:
        """Yield (name, description, (h, w, C)) of each decoding mistake that a golden image can reveal."""
        for mistake, what, decoded in decodings(self.golden(name).path, self.decode['background']):
            if not (pipeline.grey and mistake == 'grey'):
                try:
                    yield mistake, what, pipeline.run(np.ascontiguousarray(decoded), self.steps)
                except ValueError:  # a side would have no pixel
                    continue

    def decoding_finding(self, mistake: str, what: str, names: Sequence[str]) -> Finding:
        """Return the finding for a mistake of :meth:`decoded`."""
        return Finding(mistake, f'The pipeline {what}: {self.listed(names)}. {ADVICE[mistake]}.', tuple(names))

    def simulations(self, names: Sequence[str]) -> Iterator[tuple[list[Finding], Pipeline]]:
        """Yield pipelines with one mistake, and the name of each."""
        images = tuple(names)
        yield [], self.right_pipeline
        if self.channels == 3:  # first: if several mistakes explain the classes equally well, the usual one is named
            yield [order_finding((2, 1, 0), images)], Pipeline(self.geometries[0], order=(2, 1, 0))
        for geometry in self.geometries[1:]:
            found = [self.geometry_finding(geometry, images)] if geometry.name else []
            for fill in (0, 114, 128, 255) if geometry.name in ('padding', 'no resize') else (None,):
                yield found, Pipeline(geometry, fill=fill)
        for one in self.other_filters:
            yield [self.filter_finding(one, images)], Pipeline(self.geometries[0], one)
        if self.channels == 3:
            for order in list(ORDERS)[2:]:
                yield [order_finding(order, images)], Pipeline(self.geometries[0], order=order)
            yield [grey_finding(images)], Pipeline(self.geometries[0], grey=True)
        for name, what, _, turn in turns(self.height == self.width):
            yield [Finding(name, f'The images are {what}. Undo that.', images)], Pipeline(self.geometries[0], turn=turn)

    def geometry_finding(self, geometry: Geometry, images: tuple[str, ...]) -> Finding:
        """Return the finding for a wrong geometry."""
        return Finding(geometry.name, f'The pipeline {geometry.text}. {_steps_text(self.steps)}.', images)

    def filter_finding(self, used: Filter, images: tuple[str, ...]) -> Finding:
        """Return the finding for a wrong filter."""
        right = _filter_of(self.own_step)
        name = 'antialias' if used.filter == right.filter and used.antialias != right.antialias else 'filter'
        switch = ''
        if right.antialias and not used.antialias:
            switch = ' (antialias=True in torch; cv2.resize averages with INTER_AREA only)'
        elif used.antialias and not right.antialias:
            switch = ' (cv2.resize, or antialias=False in torch)'
        return Finding(
            name,
            f'Images are resized with {used.text}, the training used {right.text}{switch}. Resize with {right.library} '
            f'{right.filter}.',
            images,
        )

    def scales(self) -> Iterator[tuple[str, str, Array, Array, str]]:
        """Yield (name, description, gain, offset, advice) of each mistake with the scale of values."""
        one = np.ones(self.channels)
        take = 'Use mean and std of model.json, or leave the normalization to the graph'
        yield 'range', 'The values are 0..255', one, 0 * one, 'Normalize them'
        yield 'range', 'The values are 0..1', one / 255, 0 * one, 'Normalize them'
        yield 'range', 'The values are divided by 255 twice', one / 255**2, 0 * one, 'Divide once'
        yield 'range', 'The values are -128..127', one, -128 * one, 'Leave out the shift by 128'
        yield 'inverted', 'The values are inverted, 255 - x', -one, 255 * one, 'Leave that out'
        yield 'inverted', 'The values are inverted, 1 - x', -one / 255, one, 'Leave that out'
        for mean, std in self.normalization:
            gain, offset = affine(mean, std)
            yield 'mean', 'The mean is not subtracted', gain, 0 * one, take
            yield 'std', 'The values are not divided by the std', one / 255, -mean, take
            yield 'std', 'The mean of 0..255 is subtracted, without dividing', one, -255 * mean, take
            yield (
                'range',
                '0..255 was normalized with mean and std of 0..1',
                one / std,
                -mean / std,
                'Divide by 255 first',
            )
            yield ('range', '0..1 was normalized with mean and std of 0..255', gain / 255, offset,
                   'Leave out the division by 255')  # fmt: skip
            yield 'normalization', 'The values are divided by 255 twice', gain / 255, offset, 'Divide once'
            yield (
                'normalization',
                'The values are normalized twice',
                gain / std,
                (offset - mean) / std,
                'Normalize once',
            )
            yield ('mean and std', 'Mean and std are in the order of BGR', gain[::-1], offset[::-1],
                   'Reverse them: R, G, B')  # fmt: skip
            yield 'mean', 'The mean is added, not subtracted', gain, mean / std, take
        yield 'normalization', 'The values are scaled to -1..1', one / 127.5, -one, take
        for whose, (mean3, std3) in STATISTICS.items():
            gain, offset = affine(np.asarray(mean3[: self.channels]), np.asarray(std3[: self.channels]))
            yield 'mean and std', f'Mean and std are those {whose}', gain, offset, take
            yield 'mean and std', f'Mean and std are those {whose}, in the order of BGR', gain[::-1], offset[::-1], take

    def plain(self, images: Iterable[str], loose: bool = False) -> list[str]:
        """Return images without special properties: PNG if there are any (JPEG decoders differ), unless ``loose``."""
        names = [(one.name, one.traits) for one in self.goldens if one.name in images]
        png = [name for name, special in names if special == ('PNG',)]
        return (
            (png if not loose else [])
            or [name for name, special in names if len(special) == 1]
            or [one for one, _ in names]
        )

    def describe(self, names: Sequence[str]) -> str:
        """Describe the images by a property that they have and no others have."""
        if len(names) == len(self.goldens):
            return 'all golden images'
        inside = [set(self.golden(name).traits) for name in names]
        outside = [set(golden.traits) for golden in self.goldens if golden.name not in names]
        for one in sorted(set.intersection(*inside)) if inside else []:
            if not any(one in other for other in outside):
                return f'only images with {one} ({self.listed(names)})'
        shared = sorted(set.intersection(*inside)) if inside else []
        return self.listed(names) + (f' ({", ".join(shared)})' if shared else '')

    @staticmethod
    def listed(names: Sequence[str]) -> str:
        """Name the first few of some images."""
        return ', '.join(names[:4]) + (f' and {len(names) - 4} more' if len(names) > 4 else '')


def order_finding(order: tuple[int, ...], images: tuple[str, ...]) -> Finding:
    """Return the finding for a wrong order of channels."""
    name, advice = 'channel order', 'Reorder them'
    if ORDERS[order] == 'BGR':
        name, advice = 'BGR', 'cv2 reads BGR: add image[..., ::-1] or cv2.cvtColor(image, cv2.COLOR_BGR2RGB)'
    return Finding(name, f'The channels are in the order {ORDERS[order]}, the graph takes RGB. {advice}.', images)


def grey_finding(images: tuple[str, ...]) -> Finding:
    """Return the finding for lost colours."""
    return Finding('grey', 'Colour images become grey. Read them in colour (RGB).', images)


Turn = Callable[[Array], Array]


def turns(square: bool) -> list[tuple[str, str, Turn, Turn]]:
    """Return (name, description, function that undoes it, how it arises) of each flip, rotation or transposition."""
    found: list[tuple[str, str, Turn, Turn]] = [
        ('flip', 'mirrored left to right', lambda image: image[:, ::-1], lambda image: image[:, ::-1]),
        ('flip', 'upside down', lambda image: image[::-1], lambda image: image[::-1]),
        ('rotation', 'turned by 180 degrees', lambda image: image[::-1, ::-1], lambda image: image[::-1, ::-1]),
        ('layout', 'reshaped to channels last, not transposed', _reshaped_last, _reshaped_first),
        ('layout', 'reshaped to channels first, not transposed', _reshaped_first, _reshaped_last),
    ]
    if square:
        found.insert(2, ('transpose', 'transposed (height and width swapped)', _transposed, _transposed))
        found.append(('rotation', 'turned by 90 degrees to the left', _turned_right, np.rot90))
        found.append(('rotation', 'turned by 90 degrees to the right', np.rot90, _turned_right))
    return found


def _transposed(image: Array) -> Array:
    return image.swapaxes(0, 1)


def _turned_right(image: Array) -> Array:
    return np.rot90(image, -1)


def _reshaped_last(image: Array) -> Array:
    return np.moveaxis(np.ascontiguousarray(image).reshape(image.shape[2], *image.shape[:2]), 0, 2)


def _reshaped_first(image: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(image, 2, 0)).reshape(image.shape)


def normalizations(sidecar: Json) -> list[tuple[Array, Array]]:
    """Return (mean, std) of 0..1 of each stream, (C,) each."""
    channels = sidecar['model']['input']['shape'][3]
    found: list[tuple[Array, Array]] = []
    for one in (sidecar['model'].get('normalization') or {}).values():
        mean, std = (
            np.asarray(one[key], np.float64) / one.get('range', 1) * np.ones(channels) for key in ('mean', 'std')
        )
        if not any(np.allclose(mean, other) and np.allclose(std, scale) for other, scale in found):
            found.append((mean, std))
    # A scaling of 0..255 to 0..1 alone is not a normalization if another one follows
    return [one for one in found if not (np.allclose(one[0], 0) and np.allclose(one[1], 1))] or found


def affine(mean: Array, std: Array) -> tuple[Array, Array]:
    """Return gain and offset of a normalization: (x / 255 - mean) / std."""
    return 1 / std / 255, -mean / std


def _scaled(step: Json, tall: float, wide: float) -> Json:
    size = step['size']
    new = round(size * min(tall, wide)) if isinstance(size, int) else [round(size[0] * tall), round(size[1] * wide)]
    return {**step, 'size': new}


def _filter_of(step: Json) -> Filter:
    for one in FILTERS:
        if (one.filter, one.library) == (step['filter'], step['library']):
            return one
    return Filter(
        step['filter'], step['library'], f'{step["filter"]} of {step["library"]}', step['library'] == 'pillow'
    )


def _steps_text(steps: Sequence[Json]) -> str:
    """Describe the sidecar's steps in words."""
    said = []
    for step in steps:
        size = step['size']
        text = str(size) if isinstance(size, int) else f'{size[0]} x {size[1]}'
        if step['op'] == 'resize':
            said.append(f'resize the whole image to {text}')
        elif step['op'] == 'resize_edge':
            said.append(
                f'resize the {"shorter" if step["edge"] in ("cover", "short") else step["edge"]} edge to {text}'
            )
        else:
            said.append(f'crop the middle {text}')
    return (', then '.join(said)).capitalize() + ', as in model.json'
