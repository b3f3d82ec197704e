"""How images are read, by number, so that a checkpoint can say how its training read them."""

from collections.abc import Mapping
from typing import Any

__all__ = ['PREPROCESSING_VERSION', 'recorded_version', 'record_version']

PREPROCESSING_VERSION = 2
"""The present one. 1: transparency was dropped, and of 16 bits the upper 8 were kept."""

_KEY = 'preprocessing_version'


def recorded_version(checkpoint: Mapping[str, Any]) -> int:
    """Return the version that a checkpoint records in its ``meta``: 1 if it is older than such records.

    Example:
        >>> recorded_version({'state_dict': {}}), recorded_version({'meta': {'preprocessing_version': 2}})
        (1, 2)
    """
    meta = checkpoint.get('meta')
    return meta.get(_KEY, 1) if isinstance(meta, Mapping) else 1


def record_version(checkpoint: dict, version: int) -> None:
    """Write a version into the ``meta`` of a checkpoint."""
    checkpoint.setdefault('meta', {})[_KEY] = version
