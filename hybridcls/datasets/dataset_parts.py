"""Find the data sets inside wrappers and the transforms that read their images, and tell these what follows them."""

from collections.abc import Iterator
from typing import Any

from .transforms import LoadImage

__all__ = ['connect_loaders', 'loaders_of', 'parts_of']


def parts_of(dataset: Any) -> Iterator[Any]:
    """Yield the data sets inside ConcatDataset, RepeatDataset, Subset ..., or ``dataset`` itself."""
    inside = [*(getattr(dataset, 'datasets', None) or ()), getattr(dataset, 'dataset', None)]
    parts = [part for part in inside if hasattr(part, '__getitem__') and not isinstance(part, str)]
    for part in parts:
        yield from parts_of(part)
    if not parts:
        yield dataset


def loaders_of(pipeline: Any) -> Iterator[LoadImage]:
    """Yield the LoadImage transforms of a pipeline, at any depth."""
    for step in getattr(pipeline, 'transforms', ()):
        if isinstance(step, LoadImage):
            yield step
        else:
            yield from loaders_of(step)


def connect_loaders(pipeline: Any) -> None:
    """Tell the LoadImage transforms of a pipeline what they are a part of, for ``decode_scale='crop'``."""
    for step in getattr(pipeline, 'transforms', ()):
        if isinstance(step, LoadImage):
            step.pipeline = pipeline
