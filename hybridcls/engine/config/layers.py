"""Read a config and its bases one file at a time, so that each value keeps the file that wrote it."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, NamedTuple

from hybridcls.checks import near_files
from hybridcls.compat.mmengine import (
    is_lazy_config,
    lazy_bases,
    merge,
    read_lazy_config,
    read_source,
    run_source,
    with_scope,
)

from .dumps import RECORD, is_record, undo
from .origins import CODE, OPTION, RUNNER_KEYS, ConfigError, Layer
from .references import read_references
from .takers import DEFAULT_HOOKS
from .tree import ABSENT, Path, delete_at, differing, forget_below, leaves_in, put_at, same, value_at

__all__ = ['CODE', 'OPTION', 'ConfigError', 'Followed', 'Layer', 'Layers', 'read_layers']


class Followed(NamedTuple):
    """A value that was updated because it repeats a variable that a nearer layer changed."""

    path: Path
    old: Any
    variable: Path
    layer: Layer


@dataclass
class Layers:
    """A config merged from a chain of files, with the origin of each value.

    Args:
        values (dict): The merged config.
        origins (dict[Path, Layer]): The layer of each leaf.
        references (dict[Path, Path]): Places that repeat a variable, to the variable.
        followed (list[Followed]): What was set because of them.
        texts (dict[str, str]): The files of the text style, the furthest first.
        used (dict[str, set[str]]): The names that each file asks for.
        env_variables (dict[str, str]): Environment variables that were put in.
    """

    values: dict = field(default_factory=dict)
    origins: dict[Path, Layer] = field(default_factory=dict)
    references: dict[Path, Path] = field(default_factory=dict)
    followed: list[Followed] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    used: dict[str, set[str]] = field(default_factory=dict)
    env_variables: dict[str, str] = field(default_factory=dict)

    def beside(self, other: 'Layers') -> None:
        """Add the layers of another base of the same file.

        Raises:
            ConfigError: If both set one top-level key.
        """
        twice = sorted(self.values.keys() & other.values.keys())
        if twice:
            files = [next(o.name for p, o in one.origins.items() if p[0] == twice[0]) for one in (self, other)]
            advice = (
                'Keep it in one of them.' if files[0] != files[1] else 'Let only one of the bases inherit that file.'
            )
            raise ConfigError(
                f'load_config: two bases set the top-level key {twice[0]!r}: {files[0]} and {files[1]}. {advice}'
            )
        for name in vars(self):
            mine, its = getattr(self, name), getattr(other, name)
            mine.extend(its) if isinstance(mine, list) else mine.update(its)

    def write(self, own: dict, layer: Layer, options: bool = False) -> None:
        """Merge the values of a nearer layer, and update repeated variables that it changes.

        Args:
            own (dict): Nested as the config. ``_delete_`` keys are obeyed, and leave it.
            layer (Layer): Whose it is.
            options (bool): Whether keys that are numbers are positions in lists.

        Raises:
            TypeError, KeyError: If it does not fit what is there.
        """
        variables = {key: value for key, value in own.items() if key not in RUNNER_KEYS}
        rest = {key: value for key, value in own.items() if key in RUNNER_KEYS}
        before = self.values
        self._merge(variables, layer, options)
        self._follow(set(variables), layer, before)
        self.followed = [one for one in self.followed if value_at(rest, one.path) is ABSENT]
        self._merge(rest, layer, options)
        self._switch_off_hooks(before)

    def _switch_off_hooks(self, before: dict) -> None:
        """Remove hooks that this layer sets to None, unless mmengine has such a default hook and removes it itself."""
        hooks = before.get('default_hooks')
        for name, hook in hooks.items() if isinstance(hooks, dict) else ():
            place: Path = ('default_hooks', name)
            if hook is not None and name not in DEFAULT_HOOKS and value_at(self.values, place) is None:
                delete_at(self.values, place)
                forget_below(self.origins, place)

    def _merge(self, own: dict, layer: Layer, options: bool) -> None:
        if not own:
            return
        if not options:
            _refuse_dicts_for_others(own, self.values, (), layer)
        self._mark(own, self.values, (), layer, options)
        self.values = merge(own, self.values, allow_list_keys=options)

    def _mark(self, own: dict, there: Any, path: Path, layer: Layer, options: bool) -> None:
        for key, value in own.items():
            if key == '_delete_':
                continue
            place: Path = (*path, int(key) if options and isinstance(there, (list, tuple)) and key.isdigit() else key)
            below = value_at(there, place[-1:])
            inside = isinstance(below, (dict, list, tuple) if options else dict)
            if isinstance(value, dict) and inside and not value.get('_delete_'):
                self._mark(value, below, place, layer, options)
                continue
            for table in (self.origins, self.references):
                forget_below(table, place)
            self.origins.update({leaf: layer for leaf, _ in leaves_in(value, place) if leaf[-1] != '_delete_'})
            # What was a leaf as an empty dict holds something now.
            self.origins.pop(path, None)

    def _follow(self, changed: set, layer: Layer, before: dict) -> None:
        """Update the values that repeat a variable of ``changed``, and those that repeat these, recursively.

        What a file has written inside such a place stays: where it differed from the variable ``before``.
        """
        done: set[Path] = set()
        while True:
            due = [
                (path, variable)
                for path, variable in self.references.items()
                if path not in done and variable[0] in changed and path[0] not in done
            ]
            due = [(path, variable) for path, variable in due if value_at(self.values, variable) is not ABSENT]
            if not due:
                return
            # The innermost variables first: those that repeat no other one that is due.
            path, variable = next(((p, v) for p, v in due if not any(other[: len(v)] == v for other, _ in due)), due[0])
            done.add(path)
            value, old = deepcopy(value_at(self.values, variable)), value_at(self.values, path)
            if old is ABSENT:
                continue
            own = list(differing(value_at(before, path), value_at(before, variable)))
            for place, written in own:
                above = value_at(value, place[:-1])
                if not place:
                    value = written
                elif written is ABSENT:
                    delete_at(value, place)
                elif isinstance(above, dict) or value_at(above, place[-1:]) is not ABSENT:
                    put_at(value, place, deepcopy(written))
            if same(old, value):
                continue
            put_at(self.values, path, value)
            further = {leaf: self.origins.pop(leaf) for leaf in list(self.origins) if leaf[: len(path)] == path}
            self.origins.update({leaf: layer for leaf, _ in leaves_in(value, path)})
            kept = [(*path, *place) for place, _ in own]
            self.origins.update({leaf: by for leaf, by in further.items() if any(leaf[: len(k)] == k for k in kept)})
            if path[0] in RUNNER_KEYS:
                self.followed.append(Followed(path, old, variable, layer))
            else:
                changed = {*changed, path[0]}


def read_layers(file: str, rank: int = 0, seen: Iterable[str] = ()) -> Layers:
    """Read a file and its bases, the bases first.

    Raises:
        ConfigError: If bases contradict each other, a chain of bases leads to a file again, or one does not merge.
        Exception: Whatever the lines of a file raise; mmengine's where a base is missing.
    """
    file = str(FilePath(file).resolve())
    if file in seen:
        raise ConfigError(f'load_config: {file} is among its own bases ({" -> ".join([*seen, file])}).')
    if is_lazy_config(file):
        return _read_lazy(file, rank, (*seen, file))
    source = read_source(file)
    layers = Layers()
    for path, scope in source.bases:
        _check_base(file, path)
        base = read_layers(path, rank - 1, (*seen, file))
        base.values = with_scope(base.values, scope)
        layers.beside(base)
    own = run_source(source, layers.values)
    reading = read_references(source.text, own, source.placeholders) if file.endswith('.py') else None
    try:
        layers.write(own, Layer(rank, file))
    except TypeError as error:
        raise ConfigError(f'load_config: {file}: {error}') from error
    if is_record(own.get(RECORD)):
        layers.references.update(undo(layers.values, layers.origins))
    layers.texts[file] = FilePath(file).read_text(encoding='utf8')
    layers.env_variables.update(source.env_variables)
    if reading is not None:
        layers.references.update(reading.references)
        layers.used[file] = reading.used
    return layers


def _check_base(file: str, base: str) -> None:
    if not FilePath(base).is_file():
        raise ConfigError(
            f'load_config: {file} names the base {base!r}, which does not exist (looked for '
            f'{FilePath(base).resolve()}).{near_files(base)}'
        )


def _read_lazy(file: str, rank: int, seen: tuple[str, ...]) -> Layers:
    """Read a file of the lazy style, whose values replace those of its bases by Python's rules."""
    layers = Layers()
    for path in lazy_bases(file):
        _check_base(file, path)
        if not is_lazy_config(path) and read_source(path).bases:
            raise ConfigError(
                f'load_config: {file} imports {path} by read_base(), and that file names its own bases by _base_. '
                f'Write _base_ = {str(path)!r} here too, or import the files of configs/_base_/, which have none.'
            )
        layers.beside(read_layers(path, rank - 1, seen))
    text = FilePath(file).read_text(encoding='utf8')
    values = read_lazy_config(file)
    own = {
        key: dict(value, _delete_=True) if isinstance(value, dict) else value
        for key, value in values.items()
        if not same(value_at(layers.values, (key,)), value)
    }
    further = dict(layers.origins)
    before = layers.values
    reading = read_references(text, own, {})
    layers.write(deepcopy(own), Layer(rank, file))
    for leaf, value in leaves_in(layers.values):
        if layers.origins.get(leaf) == Layer(rank, file) and same(value_at(before, leaf), value):
            layers.origins[leaf] = further.get(leaf, Layer(rank, file))
    layers.texts[file] = text
    layers.references.update(reading.references)
    layers.used[file] = reading.used
    return layers


def _refuse_dicts_for_others(own: dict, there: Any, path: Path, layer: Layer) -> None:
    """Raise if a file writes a dict where its base has a list, or another value, which nothing merges with."""
    for key, value in own.items():
        below = value_at(there, (key,))
        if not isinstance(value, dict) or below is ABSENT or below is None or value.get('_delete_'):
            continue
        if isinstance(below, dict):
            _refuse_dicts_for_others(value, below, (*path, key), layer)
            continue
        what, advice = 'no dict', ''
        if isinstance(below, (list, tuple)):
            what, advice = 'a list', f' Write {key} = [dict(...)], which replaces the list.'
        raise ConfigError(
            f'{layer.name}: {".".join(map(str, (*path, key)))} is a dict, and {what} in its base.{advice} A dict takes '
            'its place with _delete_=True in it.'
        )
