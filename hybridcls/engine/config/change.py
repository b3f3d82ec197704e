"""Complete a config by changes that are planned, checked against the user's values, applied and recorded."""

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, NamedTuple, Optional, Union

from mmengine.config import Config

from .dumps import RECORD
from .origins import CODE, FILLED, ConfigError, Layer
from .tree import ABSENT, Path, delete_at, dotted, forget_below, key_of, leaves_in, put_at, same, value_at

__all__ = [
    'RECORD', 'Change', 'Provenance', 'Renamed', 'apply', 'layer_of', 'layers_of', 'note_layer', 'provenance_of',
    'record_of', 'table_of',
]  # fmt: skip


class Change(NamedTuple):
    """One value of a config that a step sets.

    Args:
        path (Path): Where it stands.
        old (Any): What stands there; ``ABSENT`` if nothing does.
        new (Any): What shall; ``ABSENT`` takes the key out.
        why (str): For the table of changes.
        by (Path | str, optional): What it follows from. A place that is open (absent or None) may always be filled. One
            that is written is adapted only to the value at a path, which must be of a nearer layer; or text names
            what overrules any file: an option of the command line, or what torch refuses.
        told (bool): Whether it is in the table; what only describes the machine is recorded alone.
        lasting (bool): Whether a dump is to keep it, and not to take it back for filling it again. Defaults to False.
    """

    path: Path
    old: Any
    new: Any
    why: str
    by: Optional[Union[Path, str]] = None
    told: bool = True
    lasting: bool = False


class Renamed(NamedTuple):
    """A key, or its value, that was written in the spelling of an earlier version.

    Args:
        path (Path): Where it is written.
        new_path (Path): The place in the spelling of today.
        old (Any): The value as it is written.
        new (Any): The value in the spelling of today.
        layer (Layer): Who wrote it.
    """

    path: Path
    new_path: Path
    old: Any
    new: Any
    layer: Layer


@dataclass
class Provenance:
    """The provenance of a config's values: which layer wrote each, and which steps changed them.

    Args:
        origins (dict[Path, Layer]): The layer of each leaf, that of what it was filled from included.
        values (dict[Path, Any]): The leaves then: one that differs now was set by code.
        changes (list[Change]): What steps did, in order.
        notes (list[str]): Sentences for the table: places that keep their own value.
        unread (list[str]): Top-level keys that nothing reads.
        references (dict[Path, Path]): Places that repeat a variable of the files, to the variable.
        used (set[str]): The names that some expression in the files asks for.
        renamed (list[Renamed]): What is written in an old spelling.
        options (dict[str, Any]): The options that the config was loaded with.
    """

    origins: dict[Path, Layer] = field(default_factory=dict)
    values: dict[Path, Any] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    references: dict[Path, Path] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    renamed: list[Renamed] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)


def provenance_of(cfg: Config) -> Provenance:
    """Return the provenance of a config; an empty one if it was not loaded from files. Copies keep it."""
    return vars(cfg).setdefault('hybridcls_provenance', Provenance())


def layer_of(cfg: Config, path: Path) -> Layer:
    """Return the layer that wrote the value at a path; for a dict or list, the nearest layer of its leaves."""
    return max(layers_of(cfg, path).values(), default=CODE)


def layers_of(cfg: Config, path: Path) -> dict[Path, Layer]:
    """Return the layer of each leaf at a path."""
    known = provenance_of(cfg)
    return {
        leaf: known.origins.get(leaf, CODE) if leaf in known.values and same(known.values[leaf], value) else CODE
        for leaf, value in leaves_in(value_at(cfg, path), path)
    }


def apply(cfg: Config, step: Callable[..., Iterable[Union[Change, str]]], *args: Any) -> None:
    """Apply the changes that a step plans.

    Args:
        cfg (Config): Changed in place.
        step (Callable): Called with ``cfg`` and ``args``; reads, and yields :class:`Change` or a sentence to tell.

    Raises:
        ConfigError: If a change would overrule what a nearer or the same layer wrote; names both keys.
    """
    known = provenance_of(cfg)
    for change in list(step(cfg, *args)):
        if isinstance(change, str):
            known.notes.append(change)
            continue
        if type(change.old) is type(change.new) and same(change.old, change.new):
            continue
        steps = {one.path for one in known.changes}
        is_open = change.old is ABSENT or change.old is None
        layer = layer_of(cfg, change.by) if isinstance(change.by, tuple) else FILLED if change.by is None else CODE
        written = FILLED if is_open else layer_of(cfg, change.path)
        # What a step has set before was not written.
        nearer = layer.rank >= written.rank if change.path in steps else layer.rank > written.rank
        if not is_open and not nearer and not isinstance(change.by, str):
            _refuse(cfg, change, layer, written)
        old, further = deepcopy(change.old), layers_of(cfg, change.path)
        if change.new is ABSENT:
            delete_at(cfg, change.path)
        else:
            _put(cfg, change.path, deepcopy(change.new))
        for table in (known.values, known.origins):
            forget_below(table, change.path)
        if change.new is not ABSENT:
            note_layer(known, cfg, change.path, layer)
        for leaf in further.keys() & known.values.keys():  # what a longer list keeps is still who wrote it
            if same(known.values[leaf], value_at(old, leaf[len(change.path) :])):
                known.origins[leaf] = further[leaf]
        known.changes.append(change._replace(old=old))


def note_layer(known: Provenance, cfg: Any, path: Path, layer: Layer) -> None:
    """Record the layer that wrote the leaves at a path."""
    for leaf, value in leaves_in(value_at(cfg, path), path):
        known.values[leaf], known.origins[leaf] = deepcopy(value), layer


def _refuse(cfg: Config, change: Change, layer: Layer, written: Layer) -> None:
    nearer = change.by
    if not isinstance(nearer, tuple):
        raise ConfigError(
            f'{dotted(change.path)}={_short(change.old)} is written in the config, and {change.why} only fills keys '
            'that are not.'
        )
    where = f'both in {_name(written)}' if layer == written else f'in {_name(layer)} and in {_name(written)}'
    raise ConfigError(
        f'{dotted(nearer)}={_short(value_at(cfg, nearer))} and {dotted(change.path)}={_short(change.old)} do not '
        f'fit together ({where}): {change.why}. Change one of the two.'
    )


def _put(cfg: Config, path: Path, value: Any) -> None:
    for length in range(1, len(path)):
        if not value_at(cfg, path[:length]):
            put_at(cfg, path[:length], value_at(cfg, path[:length]) or {})
    put_at(cfg, path, value)


def record_of(cfg: Config) -> list[dict]:
    """Return the changes as config values; ``old`` is absent for a new key, ``new`` for a removed one.

    Types that only got our scope in front of their names are one entry, ``scoped``; ``repeats`` tells which places
    repeat which variable, so that a change of the variable still reaches them.
    """
    rows: list[dict] = []
    scoped = []
    for change in provenance_of(cfg).changes:
        if change.lasting:
            continue
        if change.new == f'hybridcls.{change.old}':
            scoped.append(key_of(change.path))
            continue
        values = {name: value for name, value in (('old', change.old), ('new', change.new)) if value is not ABSENT}
        rows.append(dict(path=key_of(change.path), why=change.why, **values))
    repeats = [[key_of(path), key_of(variable)] for path, variable in provenance_of(cfg).references.items()]
    return [*rows, *([dict(scoped=scoped)] if scoped else []), *([dict(repeats=repeats)] if repeats else [])]


def table_of(cfg: Config, left_out: Sequence[str] = ()) -> str:
    """Format the changes for the log: one line per reason and value, then the notes.

    Args:
        cfg (Config): Whose.
        left_out (Sequence[str]): Top-level keys that do not matter here.
    """
    rows: dict[tuple, list[Path]] = {}
    for change in provenance_of(cfg).changes:
        if change.told and change.path[0] not in left_out:
            old = '' if change.old is ABSENT or change.old is None else f'{_short(change.old)} -> '
            rows.setdefault((f'{old}{_short(change.new)}', change.why), []).append(change.path)
    lines = []
    for (values, why), paths in rows.items():
        more = len(paths) - 1
        places = dotted(paths[0]) + (f' and {more} more place{"s" * (more > 1)}' if more else '')
        lines.append((places, values, why))
    widths = [max((len(line[column]) for line in lines), default=0) for column in (0, 1)]
    shown = [f'{places:<{widths[0]}}  {values:<{widths[1]}}  {why}'.rstrip() for places, values, why in lines]
    return '\n'.join([*shown, *provenance_of(cfg).notes])


def _short(value: Any) -> str:
    if value is ABSENT:
        return 'taken out'
    if isinstance(value, dict):
        return f'{value["type"]}(...)' if isinstance(value.get('type'), str) else 'a dict'
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 4:
        return f'a list of {len(value)}'
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'


def _name(layer: Layer) -> str:
    return FilePath(layer.name).name
