"""The version of the image preprocessing, which a checkpoint records."""

from collections.abc import Mapping
from typing import Any

__all__ = ['PREPROCESSING_VERSION', 'recorded_version', 'record_version']

PREPROCESSING_VERSION = 2
"""The current version. 1: transparency was dropped, and of 16 bits the upper 8 were kept."""

_KEY = 'preprocessing_version'


def recorded_version(checkpoint: Mapping[str, Any]) -> int:
    """Return the version in a checkpoint's ``meta``: 1 if it is older than such records.

    Example:
        >>> recorded_version({'state_dict': {}}), recorded_version({'meta': {'preprocessing_version': 2}})
        (1, 2)
    """
    meta = checkpoint.get('meta')
    return meta.get(_KEY, 1) if isinstance(meta, Mapping) else 1


def record_version(checkpoint: dict, version: int) -> None:
    """Write a version to the ``meta`` of a checkpoint."""
    checkpoint.setdefault('meta', {})[_KEY] = version
