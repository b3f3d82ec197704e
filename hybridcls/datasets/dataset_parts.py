"""Find the datasets inside wrappers, and the loading transforms in their pipelines."""

from collections.abc import Iterable, Iterator
from typing import Any, Optional

from hybridcls.structures import PREPROCESSING_VERSION

from .transforms import LoadImage

__all__ = ['connect_loaders', 'keep_version', 'loaders_of', 'parts_of', 'version_of']


def parts_of(dataset: Any) -> Iterator[Any]:
    """Yield the datasets inside ConcatDataset, RepeatDataset, Subset ..., or ``dataset`` itself."""
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


def keep_version(loaders: Iterable[LoadImage], version: Optional[int]) -> bool:
    """Set the preprocessing version of a trained model, where the config leaves it open.

    Args:
        loaders (Iterable[LoadImage]): Before workers start, each with its copy.
        version (int, optional): That of the model's checkpoint; None: not known, so images are read as now.

    Returns:
        bool: Whether a loader changed.

    Raises:
        ValueError: If the version is one that only a later hybridcls knows.
    """
    changed = False
    for loader in loaders:
        if loader.version is None and version not in (None, PREPROCESSING_VERSION):
            if version > PREPROCESSING_VERSION:
                raise ValueError(
                    f'LoadImage: expected preprocessing version {PREPROCESSING_VERSION} or earlier of a checkpoint, '
                    f'got {version}. Update hybridcls, or set version={PREPROCESSING_VERSION} in LoadImage.'
                )
            loader.version, changed = version, True
    return changed


def version_of(loaders: Iterable[LoadImage]) -> int:
    """Return the preprocessing version of a pipeline; the present one if it has no loader."""
    return next((loader.version for loader in loaders if loader.version), PREPROCESSING_VERSION)


def connect_loaders(pipeline: Any) -> None:
    """Give the LoadImage transforms a reference to their pipeline, for ``decode_scale='crop'``."""
    for step in getattr(pipeline, 'transforms', ()):
        if isinstance(step, LoadImage):
            step.pipeline = pipeline
