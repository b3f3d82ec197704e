"""Restore a config from a run's dump to its state before completion."""

from typing import Any

from .origins import FILLED, Layer
from .tree import ABSENT, Path, delete_at, forget_below, leaves_in, path_of, put_at, same, value_at

__all__ = ['RECORD', 'is_record', 'undo']

RECORD = 'filled'
"""The top-level key under which a completed config and its dump keep what was filled in."""

_KINDS = ({'path', 'why'}, {'scoped'}, {'repeats'})  # of rows of the record, by the keys that they have


def is_record(rows: Any) -> bool:
    """Return whether a value is a record of changes, and not a variable with the same name."""
    return isinstance(rows, list) and all(
        isinstance(row, dict) and any(k <= row.keys() for k in _KINDS) for row in rows
    )


def undo(values: dict, origins: dict[Path, Layer]) -> dict[Path, Path]:
    """Undo in place what was filled into a dumped config, so that it can be filled again.

    A value that is no longer the one that was filled in was written by hand since, and stays. Values that had been
    adapted get their old ones back, as those of a further layer, so that they are adapted again.

    Returns:
        dict[Path, Path]: The places that repeated a variable when it was dumped, to the variable.
    """
    rows = values.pop(RECORD)
    layer = next((origins[leaf] for leaf in origins if leaf[0] == RECORD), FILLED)
    forget_below(origins, (RECORD,))
    references: dict[Path, Path] = {}
    edited: set[Path] = set()
    for row in reversed(rows):
        references.update({path_of(path): path_of(variable) for path, variable in row.get('repeats', ())})
        for path in map(path_of, row.get('scoped', ())):
            name = value_at(values, path)
            if isinstance(name, str):
                put_at(values, path, name.removeprefix('hybridcls.'))
        path = path_of(row['path']) if 'path' in row else ()
        if not same(value_at(values, path), row.get('new', ABSENT)):
            edited.add(path)
        if not path or path in edited:
            continue
        forget_below(origins, path)
        if 'old' not in row:
            delete_at(values, path)
        elif value_at(values, path[:-1]) is not ABSENT:
            put_at(values, path, row['old'])
            further = Layer(layer.rank - 1, layer.name)
            origins.update({leaf: further for leaf, _ in leaves_in(row['old'], path)})
    return references
