"""Convert checkpoint content to tensors, numbers, strings, lists and dicts, and back."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, Optional

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from .compat.torch import copy_module_versions

__all__ = ['from_plain', 'to_plain']

_KIND = 'hybridcls_kind'  # the key that tells a rebuilt object from a dict of the user


def to_plain(value: Any, path: str, left_out: Optional[Callable[[str, Any], None]] = None) -> Any:
    """Convert ``value`` to types that ``torch.load(weights_only=True)`` reads; nothing is changed in place.

    Histories (``HistoryBuffer``) and numpy arrays become dicts with tensors, which :func:`from_plain` turns back;
    numpy's numbers become Python's, paths strings, and mappings dicts.

    Args:
        value: What is to be saved.
        path (str): Where it stands in the checkpoint, for messages.
        left_out (callable, optional): Told the path and value of what has no plain form, which is then left out of its
            dict or list. Defaults to None: that is an error.

    Raises:
        TypeError: If something has no plain form.

    Example:
        >>> to_plain(dict(score=np.float64(0.5), classes=('cat', 'dog')), 'meta')
        {'score': 0.5, 'classes': ('cat', 'dog')}
    """
    missing = object()

    def plain(value: Any, path: str) -> Any:
        if value is None or type(value) in (bool, int, float, complex, str, bytes):
            return value
        if isinstance(value, torch.Tensor):
            return value.detach() if isinstance(value, torch.nn.Parameter) or vars(value) else value
        if isinstance(value, (torch.Size, torch.dtype, torch.device)):
            return value
        if isinstance(value, np.generic):
            return plain(value.item(), path)
        if isinstance(value, np.ndarray) and value.dtype.kind in 'biufcUS':
            numbers = value.dtype.kind in 'biufc'
            return {_KIND: 'ndarray', 'value': torch.from_numpy(value.copy()) if numbers else value.tolist()}
        if isinstance(value, HistoryBuffer):
            logs, counts = (plain(np.asarray(part), path) for part in value.data)
            return {_KIND: 'HistoryBuffer', 'logs': logs, 'counts': counts, 'max_length': value.max_length}
        if isinstance(value, PurePath):
            return str(value)
        if isinstance(value, Mapping):
            new: dict = OrderedDict() if isinstance(value, OrderedDict) else {}
            entries = [(plain(key, path), plain(entry, f'{path}.{key}')) for key, entry in value.items()]
            new.update((key, entry) for key, entry in entries if key is not missing and entry is not missing)
            copy_module_versions(value, new)
            return new
        if isinstance(value, (list, tuple)):
            items = [plain(entry, f'{path}.{number}') for number, entry in enumerate(value)]
            items = [entry for entry in items if entry is not missing]
            return items if isinstance(value, list) else tuple(items)
        if isinstance(value, (set, frozenset)):
            return {_KIND: type(value).__name__, 'value': plain(list(value), path)}
        if isinstance(value, (int, float, str)):  # a number or string of a class of its own: an Enum, torch's versions
            kind = next(kind for kind in (str, int, float) if isinstance(value, kind))
            return str.__str__(value) if kind is str else kind(value)
        if left_out is None:
            raise TypeError(
                f'CheckpointHook: expected tensors, numbers, strings, lists and dicts in a checkpoint, got a '
                f'{type(value).__name__} at {path}. Save the state of it instead.'
            )
        left_out(path, value)
        return missing

    return plain(value, path)


def from_plain(value: Any) -> Any:
    """Rebuild, in dicts and lists in place, the objects that :func:`to_plain` converted.

    Example:
        >>> from_plain(to_plain([np.arange(3)], 'meta'))
        [array([0, 1, 2])]
    """
    if isinstance(value, dict):
        for key, entry in value.items():
            value[key] = from_plain(entry)
        return _rebuilt(value) if _KIND in value else value
    if isinstance(value, list):
        value[:] = [from_plain(entry) for entry in value]
    elif type(value) is tuple:
        return tuple(from_plain(entry) for entry in value)
    return value


def _rebuilt(parts: dict) -> Any:
    kind, value = parts[_KIND], parts.get('value')
    if kind == 'ndarray' and isinstance(value, torch.Tensor):
        return value.cpu().numpy()
    if kind == 'ndarray' and isinstance(value, list):
        return np.array(value)
    if kind in ('set', 'frozenset') and isinstance(value, list):
        return set(value) if kind == 'set' else frozenset(value)
    logs, counts, most = (parts.get(name) for name in ('logs', 'counts', 'max_length'))
    both = isinstance(logs, np.ndarray) and isinstance(counts, np.ndarray) and logs.shape == counts.shape
    if kind == 'HistoryBuffer' and both and isinstance(most, int):
        return HistoryBuffer(logs, counts, most)  # type: ignore[arg-type]
    return parts  # a dict of a user
