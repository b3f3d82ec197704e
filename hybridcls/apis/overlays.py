"""Class activation maps as overlays on images, and their deletion scores."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import torch
from PIL import Image

from hybridcls.engine.hooks.visualization_hook import picture_name
from hybridcls.functional.metrics import Interval, mean_interval
from hybridcls.visualization.overlay_image import overlay_image
from hybridcls.visualization.prediction_image import to_rgb_image

from .deletion import DeletionGains, deletion_ends, deletion_gains, passes_of_gains
from .image_inputs import Item
from .inferencer import HybridInferencer
from .stream_maps import ActivationMaps, activation_maps, mapped_layers

__all__ = [
    'DeletionGain',
    'DeletionScore',
    'OverlaidImage',
    'Overlays',
    'check_overlays',
    'make_overlays',
    'passes_of_scores',
    'write_overlays',
]


_EDGE, _FILE_EDGE = 160, 320  # pixels of the longer side: on a page, in a file
_OTHERS = 3  # images whose maps each image is also deleted by


class OverlaidImage(NamedTuple):
    """An image as the model sees it, and one overlay per stream.

    Args:
        item (Item): The image.
        seen (PIL.Image.Image): As the model sees it.
        overlays (dict[str, PIL.Image.Image]): By stream.
        label (int): The class that they are of: the predicted one.
        silent (tuple[str, ...]): Streams in which nothing speaks for that class.
    """

    item: Item
    seen: Image.Image
    overlays: dict[str, Image.Image]
    label: int
    silent: tuple[str, ...]


class DeletionGain(NamedTuple):
    """The advantage of a stream's maps over other maps in the deletion metric.

    Args:
        gain (float): Mean difference of the areas, see :class:`~hybridcls.apis.deletion.DeletionGains`.
        interval (Interval): Its 95 % interval over the images; NaN of fewer than 6.
    """

    gain: float
    interval: Interval


class DeletionScore(NamedTuple):
    """The deletion score of a stream's maps.

    Args:
        moved (DeletionGain): Over the same maps, moved at random.
        others (DeletionGain): Over maps of other images.
    """

    moved: DeletionGain
    others: DeletionGain

    @property
    def says_something(self) -> bool:
        """Whether both intervals lie above 0."""
        return self.moved.interval.low > 0 and self.others.interval.low > 0


class Overlays(NamedTuple):
    """The overlays of all images, and the deletion scores.

    Args:
        images (list[OverlaidImage]): Those that can be read.
        layers (dict[str, str]): By stream the layer whose features are mapped.
        scores (dict[str, DeletionScore]): By stream.
        merging (bool): Whether token merging was switched off for them.
        scored (int): How many images the scores are of.
    """

    images: list[OverlaidImage]
    layers: dict[str, str]
    scores: dict[str, DeletionScore]
    merging: bool
    scored: int = 0


def make_overlays(
    model: HybridInferencer,
    items: Sequence[Item],
    chosen: Optional[Mapping[str, str]] = None,
    batch_size: Optional[int] = None,
    workers: int = 0,
    scored: Optional[Sequence[Item]] = None,
) -> Overlays:
    """Compute activation maps of images, and score them by deletion.

    Args:
        model (HybridInferencer): With classes.
        items (Sequence[Item]): The images.
        chosen (Mapping[str, str], optional): Layers by stream; see :func:`~hybridcls.apis.stream_maps.mapped_layers`.
        batch_size (int, optional), workers (int): As for a call of the model.
        scored (Sequence[Item], optional): The images whose maps are scored. Defaults to None: ``items``.

    Raises:
        ValueError: If no image can be read, or a stream has no layer to look at.
    """
    found: list[OverlaidImage] = []
    layers: dict[str, str] = {}
    batch_size = batch_size or model.batch_size
    of_items, of_scored = _Maps(), _Maps()
    for read, packed, maps, names in _mapped(model, items, chosen, batch_size, workers):
        layers = names
        of_items.add(maps)
        found += _pictures(read, packed, maps.maps, maps.labels)
    if not found:
        raise ValueError(f'overlays: expected images that can be read, got {len(items)} that cannot.')
    for _, _, maps, _ in _mapped(model, scored or (), chosen, batch_size, workers):
        of_scored.add(maps)
    if not of_scored.labels:
        scored, of_scored = items, of_items
    labels = torch.cat(of_scored.labels)
    scores = _scores(model, model.preprocess(scored or items, batch_size, workers), of_scored.joined(), labels)
    merging = any(getattr(module, 'token_merging', None) is not None for module in model.model.modules())
    return Overlays(found, layers, scores, merging, len(labels))


class _Maps:
    """The activation maps of many images by stream, with the classes they are for."""

    def __init__(self) -> None:
        self.parts: dict[str, list[torch.Tensor]] = {}
        self.labels: list[torch.Tensor] = []

    def add(self, found: ActivationMaps) -> None:
        for stream, values in found.maps.items():
            self.parts.setdefault(stream, []).append(values)
        self.labels.append(found.labels)

    def joined(self) -> dict[str, torch.Tensor]:
        return {stream: torch.cat(values) for stream, values in self.parts.items()}


def _mapped(
    model: HybridInferencer,
    items: Sequence[Item],
    chosen: Optional[Mapping[str, str]],
    batch_size: int,
    workers: int = 0,
) -> Iterator[tuple[list[Item], list[Any], ActivationMaps, dict[str, str]]]:
    """Yield the packed images of each batch, their maps and the mapped layers."""
    for read, _ in model.preprocess(items, batch_size, workers):
        if read:
            packed = [sample for _, sample in read]
            inputs = model.batch_of(packed)['inputs']
            layers = mapped_layers(model, inputs, chosen)
            names = {stream: str(layer) for stream, layer in layers.items()}
            yield [item for item, _ in read], packed, activation_maps(model, inputs, layers), names


def passes_of_scores(streams: int) -> int:
    """Return how many forward passes per image the scores need."""
    return passes_of_gains(streams, _OTHERS)


def _scores(
    model: HybridInferencer,
    batches: Iterable[tuple[list, list]],
    maps: Mapping[str, torch.Tensor],
    labels: torch.Tensor,
) -> dict[str, DeletionScore]:
    """Score the maps of all images, which are read a second time, since many of them would not fit into memory."""
    gains: dict[str, list[DeletionGains]] = {stream: [] for stream in maps}
    start = 0
    for read, _ in batches:
        if not read:
            continue
        inputs = model.batch_of([sample for _, sample in read])['inputs']
        rows = torch.arange(start, start + len(read))
        ends = deletion_ends(model, inputs, labels[rows])
        for stream, own in maps.items():
            steps = range(1, min(_OTHERS + 1, len(own)))
            others = torch.stack([own[(rows + step) % len(own)] for step in steps]) if steps else None
            gains[stream].append(deletion_gains(model, inputs, own[rows], labels[rows], others, seed=start, ends=ends))
        start += len(read)
    return {
        stream: DeletionScore(
            *(
                DeletionGain(float(values.mean()), mean_interval(values))
                for values in map(torch.cat, zip(*parts, strict=True))
            )
        )
        for stream, parts in gains.items()
    }


def check_overlays(model: HybridInferencer, items: Sequence[Item], chosen: Optional[Mapping[str, str]] = None) -> int:
    """Return how many streams have maps, from the first readable image; raise if a stream has no suitable layer."""
    if not model.classes:
        raise ValueError(f'overlays: expected a model with classes, got {model.head_name}.')
    for read, _ in model.preprocess(items):
        if read:
            return len(mapped_layers(model, model.batch_of([sample for _, sample in read])['inputs'], chosen))
    return 0


def write_overlays(
    model: HybridInferencer,
    items: Sequence[Item],
    out_dir: str,
    chosen: Optional[Mapping[str, str]] = None,
    batch_size: Optional[int] = None,
    workers: int = 0,
) -> int:
    """Write one picture per image: as the model sees it, with each stream's overlay beside it; return how many.

    Args:
        model, items, chosen, batch_size, workers: As for :func:`make_overlays`.
        out_dir (str): Each picture lies under the path of its image below this folder, or its number.
    """
    written = 0
    for read, packed, maps, _ in _mapped(model, items, chosen, batch_size or model.batch_size, workers):
        for one in _pictures(read, packed, maps.maps, maps.labels, _FILE_EDGE):
            name = str(written) if one.item.path is None else picture_name(one.item.path, os.getcwd())
            file = Path(out_dir, f'{name}.png')
            file.parent.mkdir(parents=True, exist_ok=True)
            parts = [one.seen, *one.overlays.values()]
            strip = Image.new('RGB', (sum(part.width for part in parts), parts[0].height))
            for place, part in enumerate(parts):
                strip.paste(part, (place * part.width, 0))
            strip.save(file)
            written += 1
    return written


def _pictures(
    items: Sequence[Item],
    packed: Sequence,
    maps: Mapping[str, torch.Tensor],
    labels: torch.Tensor,
    edge: int = _EDGE,
) -> Iterator[OverlaidImage]:
    for row, (item, sample) in enumerate(zip(items, packed, strict=True)):
        inputs = sample['inputs']
        image = to_rgb_image(inputs if isinstance(inputs, torch.Tensor) else inputs[0], is_bgr=True)
        own = {stream: values[row].numpy() for stream, values in maps.items()}
        overlays = [overlay_image(image, values, edge) for values in own.values()]
        yield OverlaidImage(
            item,
            Image.fromarray(image).resize(overlays[0].size, Image.Resampling.BICUBIC),
            dict(zip(own, overlays, strict=True)),
            int(labels[row]),
            tuple(stream for stream, values in own.items() if not values.any()),
        )
