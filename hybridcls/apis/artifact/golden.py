"""Golden images: sixteen images whose values at each stage of the model are stored, for comparison elsewhere."""

import io
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Optional

import cv2
import numpy as np
from PIL import Image

from hybridcls.datasets.dataset_parts import loaders_of

from ..image_inputs import read_inputs
from ..trained_model import TrainedModel
from .network_input import read_network_input

__all__ = ['GOLDEN_FILE', 'MOST_BYTES', 'golden_batch', 'golden_images', 'write_golden']

GOLDEN_FILE = 'golden.npz'
MOST_BYTES = 4 * 2**20
"""Of the images and their stages together."""

_FOLDER = 'golden'


def golden_images(bits: int = 16) -> dict[str, bytes]:
    """Draw the golden images, ten PNG and six JPEG files of many kinds, by name; deterministic.

    Args:
        bits (int): Significant bits of those with 16 bits a channel. Defaults to 16.
    """
    exif = Image.Exif()
    exif[0x0112] = 6
    rgba = np.dstack([_scene(150, 200, 1), _ramp(150, 200)])
    palette = Image.fromarray(_scene(180, 180, 2)).quantize(64)
    hole = Image.fromarray(_scene(120, 160, 3)).quantize(16)
    hole.info['transparency'] = 3
    grey = Image.fromarray(_scene(97, 131, 4)).convert('L')
    inks = Image.fromarray(np.dstack([_scene(120, 140, 9), _ramp(120, 140) // 3]), 'CMYK')
    images: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        'color.png': (Image.fromarray(_scene(600, 800, 0)), {}),
        'transparent.png': (Image.fromarray(rgba), {}),
        'palette.png': (palette, {}),
        'palette_transparent.png': (hole, dict(transparency=3)),
        'grey.png': (grey, {}),
        'grey_transparent.png': (Image.fromarray(np.dstack([np.asarray(grey), _ramp(97, 131)])), {}),
        'wide.png': (Image.fromarray(_scene(37, 400, 5)), {}),
        'tall.png': (Image.fromarray(_scene(300, 41, 6)), {}),
        'halved.jpg': (Image.fromarray(_scene(243, 321, 7)), dict(subsampling='4:2:0')),
        'turned.jpg': (Image.fromarray(_scene(160, 220, 8)), dict(exif=exif, subsampling='4:4:4')),
        'grey.jpg': (grey, {}),
        'inks.jpg': (inks, {}),
        'large.jpg': (Image.fromarray(_scene(900, 1200, 10)), dict(subsampling='4:2:0')),
        'tiny.jpg': (Image.fromarray(_scene(5, 7, 11)), {}),
    }
    files = {name: _encoded(name, image, options) for name, (image, options) in images.items()}
    for name, channels, seed in (('deep.png', 3, 12), ('deep_grey.png', 1, 13)):
        deep = _scene(110, 90, seed)[..., :channels].astype(np.uint32) * (2**bits - 1) // 255
        files[name] = cv2.imencode('.png', deep.astype(np.uint16))[1].tobytes()
    return dict(sorted(files.items()))


def golden_batch(trained: TrainedModel, own: Optional[str] = None) -> np.ndarray:
    """Return the golden images as the input of the network, uint8 (N, h, w, C), RGB."""
    if own is None:
        samples = [dict(img=content) for content in golden_images(_bits(trained)).values()]
    else:
        samples = [item.as_sample() for item in read_inputs(own, 'export').items]
    return read_network_input(trained).unpacked(trained.pipeline(sample)['inputs'] for sample in samples)


def _bits(trained: TrainedModel) -> int:
    depth = next(iter(loaders_of(trained.pipeline))).depth
    return depth if isinstance(depth, int) else 16


def _encoded(name: str, image: Image.Image, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, 'PNG' if name.endswith('.png') else 'JPEG', **(dict(quality=90) | options))
    return buffer.getvalue()


def _ramp(height: int, width: int) -> np.ndarray:
    """Return a horizontal ramp from 0 to 255 in steps, uint8 (height, width)."""
    return np.broadcast_to((np.arange(width) * 8 // width * 255 // 7).astype(np.uint8), (height, width))


def _scene(height: int, width: int, seed: int) -> np.ndarray:
    """Return a coloured scene with edges, stripes and noise, uint8 (height, width, 3), by integer arithmetic alone.

    Fields of one colour keep what is stored small, stripes and noise show any other resizing, colours their order.
    """
    y, x = np.mgrid[:height, :width].astype(np.int64)
    side = max(2, min(height, width))
    cell = 3 * (y * 4 // max(1, height)) + 5 * (x * 4 // max(1, width)) + seed
    image = np.stack([cell * 37 % 223 + 16, cell * 91 % 211 + 8, cell * 53 % 197 + 40], axis=2)
    distance = (2 * y - height) ** 2 + (2 * x - width) ** 2
    image[distance < (side * 3 // 4) ** 2] = (220, 60 + 9 * seed, 30)
    stripes = (y * 8 // max(1, height) == 2) & ((x + seed) % 4 < 2)
    image[stripes] = (15, 30, 240)
    corner = (y * 4 // height == 3) & (x * 4 // width == 3)
    noise = (((x * 7919 + y * 104729 + seed * 31337) * 2654435761) >> 7)[..., None] >> np.array([0, 9, 18])
    return np.where(corner[..., None], noise, image).astype(np.uint8)


def write_golden(
    folder: Path,
    trained: TrainedModel,
    compute: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    own: Optional[str] = None,
    normalized: Optional[Callable[[np.ndarray], Mapping[str, np.ndarray]]] = None,
    mistakes: Optional[Mapping[str, Mapping[str, np.ndarray]]] = None,
) -> dict[str, Any]:
    """Write the golden images with their outputs in PyTorch, and return ``golden`` of the sidecar.

    Args:
        folder (Path): Of the artifact.
        trained (TrainedModel): Whose pipeline reads the images.
        compute (Callable): From uint8 (N, h, w, 3) RGB to the outputs by name.
        own (str, optional): A folder or pattern of images of the user, which are copied instead.
        normalized (Callable, optional): From the same to what each stream sees, by its name, (N, 3, h, w); every 16th
            row and column is stored as float16.
        mistakes (Mapping, optional): Outputs for the same images that a mistake gives, by its name: stored as
            ``mistake/NAME/OUTPUT``, they let ``verify.py`` name it.

    Raises:
        ValueError: If images and stages need more than ``MOST_BYTES``.
    """
    target = folder / _FOLDER
    target.mkdir(parents=True, exist_ok=True)
    loader = next(iter(loaders_of(trained.pipeline)))
    if own is None:
        for name, content in golden_images(_bits(trained)).items():
            (target / name).write_bytes(content)
    else:
        for number, item in enumerate(read_inputs(own, 'export').items):
            shutil.copyfile(item.source, target / f'{number:02}_{Path(item.source).name}')
    names = sorted(path.name for path in target.iterdir())
    stages: dict[str, np.ndarray] = dict(names=np.array(names))
    packed = []
    for number, name in enumerate(names):
        path = str(target / name)
        stages[f'decoded_{number}'] = np.ascontiguousarray(loader.read(path)[..., ::-1])
        packed.append(trained.pipeline(dict(img_path=path))['inputs'])
    stages['input'] = batch = read_network_input(trained).unpacked(packed)
    for stream, values in (normalized(batch) if normalized is not None else {}).items():
        stages[f'normalized_{stream}'] = values[..., ::16, ::16].astype(np.float16)
    stages.update({name: np.asarray(values, np.float32) for name, values in compute(batch).items()})
    for mistake, outputs in (mistakes or {}).items():
        stages.update({f'mistake/{mistake}/{name}': np.asarray(values, np.float32) for name, values in outputs.items()})
    np.savez_compressed(folder / _FOLDER / GOLDEN_FILE, **stages)  # type: ignore[arg-type]
    size = sum(path.stat().st_size for path in target.iterdir())
    if size > MOST_BYTES:
        raise ValueError(
            f'export: expected golden images that need at most {MOST_BYTES // 2**20} MB with their stages, got '
            f'{size / 2**20:.1f} MB of {len(names)}. Pass fewer or smaller ones to --golden.'
        )
    return dict(folder=_FOLDER, file=f'{_FOLDER}/{GOLDEN_FILE}', own=own is not None, images=names)
