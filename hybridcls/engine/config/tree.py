"""Walk over a config: the paths of its values, and the dicts that are datasets, dataloaders or transforms."""

import inspect
from collections.abc import Iterator
from typing import Any, Union

from mmengine.config import Config

from hybridcls.signatures import takes_argument

__all__ = [
    'ABSENT', 'Path', 'class_of', 'dataloaders_in', 'datasets_in', 'delete_at', 'differing', 'dotted', 'forget_below',
    'holds_datasets', 'is_a', 'key_of', 'leaves_in', 'path_of', 'put_at', 'same', 'split', 'takes', 'transforms_in',
    'value_at', 'walk',
]  # fmt: skip

Path = tuple[Union[str, int], ...]
"""Where a value stands in a config: keys of dicts and positions in lists."""


class _Absent:
    def __repr__(self) -> str:
        return 'not there'

    def __bool__(self) -> bool:
        return False

    def __copy__(self) -> '_Absent':
        return self

    def __deepcopy__(self, memo: dict) -> '_Absent':
        return self

    def __reduce__(self) -> str:
        return 'ABSENT'


ABSENT: Any = _Absent()
"""The value of a place that is not in a config."""

# Dicts below these keys are datasets.
_DATASET_KEYS = ('dataset', 'datasets', 'bank')


def dotted(path: Path) -> str:
    """Write a path as a dotted key, as in an option of the command line.

    Example:
        >>> dotted(('param_scheduler', 0, 'end'))
        'param_scheduler.0.end'
    """
    return '.'.join(map(str, path))


def split(key: str) -> Path:
    """Split a dotted key into a path; numbers are positions in lists."""
    return tuple(int(part) if part.isdigit() else part for part in key.split('.'))


def key_of(path: Path) -> Union[str, list]:
    """Write a path for :func:`path_of`: dotted, or as a list if a key has a dot or is a string of digits."""
    return dotted(path) if split(dotted(path)) == path else list(path)


def path_of(key: Union[str, list]) -> Path:
    """Read a path that :func:`key_of` wrote.

    Example:
        >>> path_of(key_of(('custom_keys', 'backbone.cnn', 'lr_mult')))
        ('custom_keys', 'backbone.cnn', 'lr_mult')
    """
    return split(key) if isinstance(key, str) else tuple(key)


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal; arrays and tensors are compared element by element."""
    try:
        equal: Any = one is other or one == other
        return bool(equal.all() if hasattr(equal, 'all') else equal)
    except (RuntimeError, ValueError):
        return False


def differing(one: Any, other: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the paths at which ``one`` and ``other`` differ, as deep as their types agree, with both values.

    Example:
        >>> list(differing(dict(a=1, b=[2, 3]), dict(a=1, b=[2, 4], c=5)))
        [(('b', 1), 3), (('c',), not there)]
    """
    if isinstance(one, dict) and isinstance(other, dict) and one.get('type') == other.get('type'):
        for key in (*one, *(key for key in other if key not in one)):
            yield from differing(one.get(key, ABSENT), other.get(key, ABSENT), (*path, key))
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other, strict=True)):
            yield from differing(*pair, (*path, number))
    elif not same(one, other):
        yield path, one


def walk(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield path and value of ``node`` and of everything in it, outer values first."""
    yield path, node
    if isinstance(node, (dict, Config)):
        for key, value in list(node.items()):
            yield from walk(value, (*path, key))
    elif isinstance(node, (list, tuple)):
        for number, value in enumerate(node):
            yield from walk(value, (*path, number))


def leaves_in(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield only the leaves of :func:`walk`; an empty dict or list is a leaf."""
    for place, value in walk(node, path):
        if not isinstance(value, (dict, Config, list, tuple)) or not value:
            yield place, value


def value_at(node: Any, path: Path) -> Any:
    """Return the value at a path, or ``ABSENT``."""
    for key in path:
        if isinstance(node, (dict, Config)):
            node = node.get(key if key in node else str(key), ABSENT)
        elif isinstance(node, (list, tuple)) and isinstance(key, int) and key < len(node):
            node = node[key]
        else:
            return ABSENT
    return node


def put_at(node: Any, path: Path, value: Any) -> None:
    """Set the value at a path, in place; its parents must exist."""
    above = value_at(node, path[:-1])
    key: Any = path[-1]
    if isinstance(above, tuple):
        put_at(node, path[:-1], (*above[:key], value, *above[key + 1 :]))
    elif isinstance(above, dict) and str(key) in above:
        above[str(key)] = value
    else:
        above[key] = value


def delete_at(node: Any, path: Path) -> None:
    """Delete the key at a path, in place, if it exists."""
    if value_at(node, path) is not ABSENT:
        value_at(node, path[:-1]).pop(path[-1])


def forget_below(table: dict[Path, Any], path: Path) -> None:
    """Remove from a table the entries at a path and below it."""
    for known in [known for known in table if known[: len(path)] == path]:
        del table[known]


def dataloaders_in(node: Any) -> Iterator[tuple[Path, dict]]:
    """Yield each dataloader: ``train_dataloader``, or that of a hook or a metric."""
    for path, value in walk(node):
        if path and isinstance(value, dict):
            key = str(path[-1])
            if key == 'dataloader' or key.endswith('_dataloader'):
                yield path, value


def holds_datasets(key: str) -> bool:
    """Return whether the value of a key is a dataset or a list of datasets."""
    return key in _DATASET_KEYS or key.endswith('_dataset')


def datasets_in(node: Any) -> Iterator[tuple[Path, dict]]:
    """Yield each dict with a type under a key that holds a dataset or a list of them."""
    for path, value in walk(node):
        if isinstance(value, dict) and 'type' in value and path:
            key = str(path[-2] if isinstance(path[-1], int) and len(path) > 1 else path[-1])
            if holds_datasets(key):
                yield path, value


def transforms_in(node: Any) -> Iterator[tuple[Path, dict]]:
    """Yield each dict with a type in a list of transforms: a pipeline, or inside another transform."""
    for path, value in walk(node):
        if isinstance(value, dict) and 'type' in value:
            outer = [key for key in path if not isinstance(key, int)]
            if outer and isinstance(path[-1], int) and (outer[-1] == 'transforms' or outer[-1].endswith('pipeline')):
                yield path, value


def class_of(registry: str, node: Any) -> Any:
    """Return the class (or function) that a dict of a config names, or None if it names no known one.

    Args:
        registry (str): Its kind, a name in :mod:`hybridcls.registry`, such as ``'MODELS'``.
        node: A dict with ``type``: a name or a class. Anything else is no part.
    """
    kind = node.get('type') if isinstance(node, dict) else None
    if not isinstance(kind, str):
        return kind
    from hybridcls import registry as registries

    found = getattr(registries, registry)
    if node.get('_scope_') is None:  # as in our own scope, whatever is the default now
        return found.get(kind) if kind in found else None
    try:
        return found.class_of(node)
    except KeyError:  # left to the build to report
        return None


def is_a(registry: str, node: Any, cls: type) -> bool:
    """Return whether a dict of a config names ``cls`` or a subclass."""
    kind = class_of(registry, node)
    return inspect.isclass(kind) and issubclass(kind, cls)


def takes(registry: str, node: Any, key: str) -> bool:
    """Return whether the class that a dict of a config names takes the argument ``key``."""
    kind = class_of(registry, node)
    return inspect.isclass(kind) and takes_argument(kind, key)
