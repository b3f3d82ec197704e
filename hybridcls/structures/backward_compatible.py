"""The record, in a checkpoint, of old models that its embeddings are compatible with."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ['record_compatible', 'recorded_compatible']

_KEY = 'backward_compatible_with'


def recorded_compatible(checkpoint: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the record in a checkpoint's ``meta``: ``digest``, ``checkpoint`` and ``width`` of each old model.

    Example:
        >>> checkpoint: dict = {}
        >>> record_compatible(checkpoint, [dict(digest='ab', checkpoint='a.pth', width=8)])
        >>> recorded_compatible(checkpoint)
        [{'digest': 'ab', 'checkpoint': 'a.pth', 'width': 8}]
        >>> recorded_compatible({'state_dict': {}})
        []
    """
    meta = checkpoint.get('meta')
    return [dict(one) for one in meta.get(_KEY) or ()] if isinstance(meta, Mapping) else []


def record_compatible(checkpoint: dict, old_models: Sequence[Mapping[str, Any]]) -> None:
    """Write the old models to the ``meta`` of a checkpoint."""
    checkpoint.setdefault('meta', {})[_KEY] = [dict(one) for one in old_models]
