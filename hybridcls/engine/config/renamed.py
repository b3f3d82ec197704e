"""Convert old spellings of keys and values in a config to the present ones, in any layer."""

import ast
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path as FilePath
from typing import Any, NamedTuple

from mmengine.config import Config

from hybridcls.renames import (
    IN_A_CONFIG,
    KEYS,
    METRIC_KEYS,
    VALUES,
    keys_of,
    new_dotted_name,
    new_metric_name,
    new_value,
    values_of,
    warn_of_value,
    warn_renamed,
)
from hybridcls.signatures import takes_argument

from .change import Provenance, Renamed, layer_of, provenance_of
from .facts import config_facts
from .origins import ConfigError
from .takers import takers_of
from .tree import ABSENT, Path, dotted, forget_below, leaves_in, put_at, same, value_at, walk

__all__ = ['OldSpelling', 'new_facts', 'old_spellings', 'rename', 'spellings_of_part', 'with_new_spellings']

_WITH_RESULTS = ('default_hooks', 'custom_hooks', 'param_scheduler')  # where results of metrics are named


class OldSpelling(NamedTuple):
    """A key or value in a config that is spelled as in version 0.1.

    Args:
        path (Path): Where it stands.
        key (str): The new name of the key; the old one where that stays.
        replace (Callable): Gives a string of the value its new spelling.
    """

    path: Path
    key: str
    replace: Callable[[str], str]

    @property
    def new_path(self) -> Path:
        """The path in the new spelling."""
        return (*self.path[:-1], self.key)


def old_spellings(cfg: Any) -> list[OldSpelling]:
    """Find old spellings in a config; the class that takes a key decides which are old. Variables are skipped.

    Args:
        cfg (Config | dict): Read.
    """
    found: dict[Path, OldSpelling] = {}
    nodes = [(path, node) for path, node in walk(cfg) if path and isinstance(node, dict)]
    if any(_may_be_old(node) for _, node in nodes):
        for path, kind in takers_of(cfg).parts.items():
            found.update({one.path: one for one in spellings_of_part(path, value_at(cfg, path), kind)})
    for path, node in nodes:
        for key, value in node.items():
            replace: Callable[[str], str] = str
            if key in METRIC_KEYS and path[0] in _WITH_RESULTS:
                replace = new_metric_name
            elif key == 'type' or (*path, key) == ('custom_imports', 'imports'):
                replace = new_dotted_name
            if not same(new_value(value, replace), value):
                found[(*path, key)] = OldSpelling((*path, key), key, replace)
    return list(found.values())


def _may_be_old(node: dict) -> bool:
    """Return whether a dict has a key or value that some class had spelled so; a fast check before the exact one."""
    return any(row.old in node and row.fits(node[row.old]) for row in KEYS) or any(
        row.key in node and not same(new_value(node[row.key], row.replace), node[row.key]) for row in VALUES
    )


def spellings_of_part(path: Path, node: dict, kind: Any) -> Iterator[OldSpelling]:
    """Yield the old spellings in a dict of arguments of ``kind``."""
    names = {
        row.old: row.new
        for row in keys_of(kind)
        if row.old in node and row.fits(node[row.old]) and not takes_argument(kind, row.old)
    }
    replacements = values_of(kind)
    for key, value in node.items():
        name = names.get(key, key)
        replace = replacements.get(name, str)
        if name != key or not same(new_value(value, replace), value):
            yield OldSpelling((*path, key), name, replace)


def with_new_spellings(values: dict) -> dict:
    """Return a config of version 0.1 in the present spelling.

    Example:
        >>> with_new_spellings(dict(model=dict(type='ArcFaceHead', num_classes=2, sub_centres=3)))
        {'model': {'type': 'ArcFaceHead', 'num_classes': 2, 'num_subcenters': 3}}
    """
    values = deepcopy(values)
    for one in old_spellings(values):
        _write(values, one.path, one.new_path, new_value(value_at(values, one.path), one.replace))
    return values


def rename(cfg: Config) -> None:
    """Convert old spellings in a config in place, as if its files had used the new ones.

    A value stays that of the layer that wrote it; of an old and a new spelling of one key the nearer layer's counts.

    Raises:
        ConfigError: If one layer writes both; names both keys.
    """
    known = provenance_of(cfg)
    for one in old_spellings(cfg):
        for old, new in _all_places(one, known).items():
            value = value_at(cfg, old)
            if value is not ABSENT:
                _rename_at(cfg, old, new, new_value(value, one.replace))


def _all_places(one: OldSpelling, known: Provenance) -> dict[Path, Path]:
    """Return the old and new path of a spelling, and of all places in the files that repeat it."""
    places = {one.path: one.new_path}
    while True:
        more = {}
        for old, new in places.items():
            for place, variable in known.references.items():
                for start, to in ((place, variable), (variable, place)):
                    if old[: len(start)] == start and len(old) > len(start):
                        more[(*to, *old[len(start) :])] = (*to, *new[len(start) :])
            if old in known.references:  # the value is a variable, whose name stays
                more[known.references[old]] = known.references[old]
        if more.keys() <= places.keys():
            return places
        places = {**more, **places}


def _rename_at(cfg: Config, old: Path, new: Path, value: Any) -> None:
    known, layer, before = provenance_of(cfg), layer_of(cfg, old), value_at(cfg, old)
    known.renamed.append(Renamed(old, new, before, value, layer))
    tables: tuple[dict[Path, Any], ...] = (known.values, known.origins, known.references)
    where = FilePath(layer.name).name
    if new != old and value_at(cfg, new) is not ABSENT:
        other = layer_of(cfg, new)
        if other == layer:
            raise ConfigError(
                f'{dotted(old)}={before!r} and {dotted(new)}={value_at(cfg, new)!r} are one key in the spellings of '
                f'versions 0.1 and 0.2, both in {where}. Drop {old[-1]}.'
            )
        if other > layer:
            warn_renamed(str(old[-1]), str(new[-1]), where, IN_A_CONFIG)
            value_at(cfg, old[:-1]).pop(old[-1])
            for table in tables:
                forget_below(table, old)
            return
        for table in tables:
            forget_below(table, new)
    _write(cfg, old, new, value)
    for table in tables:
        for place in [place for place in table if place[: len(old)] == old]:
            table[(*new, *place[len(old) :])] = table.pop(place)
    for place, variable in known.references.items():
        if variable[: len(old)] == old:
            known.references[place] = (*new, *variable[len(old) :])
    known.values.update({leaf: deepcopy(one) for leaf, one in leaves_in(value, new)})
    if new != old:
        warn_renamed(str(old[-1]), str(new[-1]), where, IN_A_CONFIG)
    warn_of_value(str(new[-1]), before, value, where)


def _write(values: Any, old: Path, new: Path, value: Any) -> None:
    """Rename a key of a dict and set its value, keeping its position."""
    if old == new:
        put_at(values, old, value)
        return
    node = value_at(values, old[:-1])
    node.pop(new[-1], None)
    for key in list(node):  # all of them, so that the order stays
        entry = node.pop(key)
        node[new[-1] if key == old[-1] else key] = value if key == old[-1] else entry


class _Text:
    """A value that is known only by its printed form."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def new_facts(facts: dict[str, str]) -> dict[str, str]:
    """Return the flat facts of a config of version 0.1 in the present spelling.

    Example:
        >>> new_facts({'model.type': "'ArcFaceHead'", 'model.sub_centres': '3'})
        {'model.num_subcenters': '3', 'model.type': "'ArcFaceHead'"}
    """
    tree: dict = {}
    for key, text in facts.items():
        node = tree
        *above, last = key.split('.')
        for part in above:
            node = node.setdefault(part, {})
        node[last] = _value_of(text)
    return config_facts(with_new_spellings(_with_lists(tree)))


def _value_of(text: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return _Text(text)
    is_plain = not value or not isinstance(value, (list, tuple, dict, set))  # a filled one would be taken apart
    return value if is_plain and repr(value) == text else _Text(text)


def _with_lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    values = [_with_lists(one) for one in node.values()]
    is_list = bool(node) and list(node) == [str(number) for number in range(len(node))]
    return values if is_list else dict(zip(node, values, strict=True))
