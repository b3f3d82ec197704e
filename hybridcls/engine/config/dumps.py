"""Read a config that a run has dumped as it was before it was completed."""

from .origins import FILLED, Layer
from .tree import ABSENT, Path, delete_at, forget_below, leaves_in, put_at, split, value_at

__all__ = ['RECORD', 'undo']

RECORD = 'filled'
"""The top-level key under which a completed config and its dump keep what was filled in."""


def undo(values: dict, origins: dict[Path, Layer]) -> dict[Path, Path]:
    """Take out of a config that was dumped what had been filled in, so that it is filled anew; in place.

    What a nearer file has written since stays. Values that had been adapted get their old ones back, as those of a
    further layer, so that they are adapted again.

    Returns:
        dict[Path, Path]: The places that repeated a variable when it was dumped, to the variable.
    """
    rows = values.pop(RECORD, None) or []
    layer = next((origins[leaf] for leaf in origins if leaf[0] == RECORD), FILLED)
    forget_below(origins, (RECORD,))
    references: dict[Path, Path] = {}
    for row in reversed(rows):
        references.update({split(path): split(variable) for path, variable in row.get('repeats', {}).items()})
        for path in map(split, row.get('scoped', ())):
            name = value_at(values, path)
            if isinstance(name, str):
                put_at(values, path, name.removeprefix('hybridcls.'))
        path = split(row['path']) if 'path' in row else ()
        leaves = [leaf for leaf in origins if leaf[: len(path)] == path]
        if not path or any(origins[leaf].rank > layer.rank for leaf in leaves):
            continue
        forget_below(origins, path)
        if 'old' not in row:
            delete_at(values, path)
        elif value_at(values, path[:-1]) is not ABSENT:
            put_at(values, path, row['old'])
            further = Layer(layer.rank - 1, layer.name)
            origins.update({leaf: further for leaf, _ in leaves_in(row['old'], path)})
    return references
