"""Explain each key of a config: its value, its origin, and the class that reads it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, NamedTuple, Optional

from mmengine.config import Config

from hybridcls.engine.config.change import Change, layers_of, provenance_of
from hybridcls.engine.config.origins import OPTION, RUNNER_KEYS, Layer
from hybridcls.engine.config.references import line_of
from hybridcls.engine.config.shared_keys import SHARED_KEYS
from hybridcls.engine.config.taker import UNREAD, Takers
from hybridcls.engine.config.tree import ABSENT, Path, dotted, leaves_in, split, value_at
from hybridcls.engine.training import TRAINING_KEYS

__all__ = ['PASSED_OVER', 'VARIABLE', 'Explanation', 'InChain', 'explain_config']

VARIABLE, PASSED_OVER = 'variable', 'passed over'


class InChain(NamedTuple):
    """A phase, whose options come from the config of its chain.

    Args:
        chain (Config): The config of the chain.
        position (int): The index in ``phases``, from 0.
    """

    chain: Config
    position: int


@dataclass
class Explanation:
    """The explanation of one key.

    Args:
        path (Path): The key. A list of plain values is one key.
        value: Its final value.
        source (str): ``'file'``, ``'option'``, ``'filled'``, ``'adapted'`` or ``'code'``.
        file (str, optional): The file that sets it or its source, or ``'--cfg-options'``.
        line (int): The line in the file; 0 if unknown.
        why (str): The reason of a change; the option or the variable that it comes from.
        old: The value before a change; ``ABSENT`` if there was none.
        taker (str): The class or function that reads it.
        status (str): That of :class:`~hybridcls.engine.config.taker.Taker`; ``'variable'`` for a source of other keys;
            ``'passed over'`` for a variable of a base that no key uses any more.
    """

    path: Path
    value: Any
    source: str
    file: Optional[str]
    line: int
    why: str
    old: Any
    taker: str
    status: str


def explain_config(cfg: Config, takers: Takers, phase: Optional[InChain] = None) -> list[Explanation]:
    """Explain each key of a completed config, in its order.

    Args:
        cfg (Config): The config.
        takers (Takers): Of this config.
        phase (InChain, optional): The phase of a chain that it belongs to. Defaults to None.
    """
    origins = provenance_of(cfg).origins
    # mmengine adds the package of a base, `_scope_`, to every dict of it.
    paths = [path for path in _keys_in(cfg) if path[-1] != '_scope_' or path in origins]
    return [_explain(cfg, takers, path, phase) for path in paths]


def _keys_in(cfg: Config) -> Iterator[Path]:
    """Yield the paths of leaves, one for a list of plain values."""
    done: Path = ()
    for path, _ in leaves_in(cfg):
        if done and path[: len(done)] == done:
            continue
        done = path
        while isinstance(done[-1], int) and len(done) > 1:
            above = value_at(cfg, done[:-1])
            if any(isinstance(one, dict) for one in _flat(above)):
                break
            done = done[:-1]
        yield done


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _flat(value)
        else:
            yield value


def _explain(cfg: Config, takers: Takers, path: Path, phase: Optional[InChain]) -> Explanation:
    known = provenance_of(cfg)
    layer = max(layers_of(cfg, path).values())
    why, old, source = '', ABSENT, 'option' if layer == OPTION else 'file' if layer.rank < OPTION.rank else 'code'
    place: Path = path
    change = _change_of(known.changes, path)
    if change is not None:
        old = value_at(change.old, path[len(change.path) :])
        source = 'filled' if old is ABSENT or old is None else 'adapted'
        why = change.why
        place = _cause_of(change, known.changes)
        layer = max(layers_of(cfg, place).values()) if place else layer
    variable = _follow(path, known.references)
    renamed = next((one for one in known.renamed if path[: len(one.new_path)] == one.new_path), None)
    if renamed is not None and source in ('file', 'option') and layer == renamed.layer:
        why = f'written as {renamed.path[-1]}={renamed.old!r}'
        place = (*renamed.path, *path[len(renamed.new_path) :])
    elif source in ('file', 'option') and variable != path and value_at(cfg, variable) == value_at(cfg, path):
        why, writer = f'repeats {dotted(_shared_start(path, variable))}', max(layers_of(cfg, variable).values())
        if writer.rank < layer.rank <= 0:  # `{{_base_.x}}`: the base says what the value is
            file, line = _where(layer, path, known.references)
            why += f', named in {FilePath(file or layer.name).name}:{line}'
            layer, place = writer, variable
        elif writer != layer:
            why = ''
    file, line = _where(layer, place, known.references, phase) if place and source != 'code' else (None, 0)
    taker = takers.at(path)
    name, status = (taker.name, taker.status) if taker is not None else _of_variable(cfg, path)
    return Explanation(path, value_at(cfg, path), source, file, line, why, old, name, status)


def _change_of(changes: Iterable[Change], path: Path) -> Optional[Change]:
    """Return the last change of a value; a change of a dict around it may have kept it."""
    for change in reversed(list(changes)):
        inside = path[len(change.path) :]
        made_it = value_at(change.old, inside) != value_at(change.new, inside)
        if change.path == path[: len(change.path)] and change.new is not ABSENT and made_it:
            return change
    return None


def _cause_of(change: Change, changes: list[Change]) -> Path:
    """Return the key that a change follows from, through several changes; empty if it is not a key."""
    place: Path = ()
    cause: Optional[Change] = change
    while cause is not None and isinstance(cause.by, tuple) and cause.by != place:
        place = cause.by
        cause = _change_of(changes, place)
    return place


def _follow(path: Path, references: dict[Path, Path]) -> Path:
    """Follow a key to the variable that it repeats, through several variables."""
    seen = set()
    while path not in seen:
        seen.add(path)
        for length in range(len(path), 0, -1):
            if path[:length] in references:
                path = (*references[path[:length]], *path[length:])
                break
    return path


def _shared_start(path: Path, variable: Path) -> Path:
    """Return the part of a variable that a key repeats, without the keys below that are the same in both."""
    while len(variable) > 1 and variable[-1] == path[-1]:
        path, variable = path[:-1], variable[:-1]
    return variable


def _where(
    layer: Layer, path: Path, references: dict[Path, Path], phase: Optional[InChain] = None
) -> tuple[Optional[str], int]:
    """Return the file of a layer, and the line that sets a key or the variable that the key repeats."""
    if layer == OPTION:
        return (_in_chain(*phase, path) if phase else None) or (layer.name, 0)
    file = FilePath(layer.name)
    if not file.is_file():
        return None, 0
    if file.suffix != '.py':
        return str(file), 0
    return str(file), line_of(file.read_text(encoding='utf8'), path, _follow(path, references))


def _in_chain(chain: Config, position: int, path: Path) -> Optional[tuple[Optional[str], int]]:
    """Return where a chain sets an option of a phase: for this phase, for all, or as a top-level key."""
    for start in (('phases', position, 'cfg_options'), ('cfg_options',), (path[0],)):
        for place, layer in layers_of(chain, start).items():
            key = place if len(start) == 1 and start[0] == path[0] else split(dotted(place[len(start) :]) or '-')
            if path[: len(key)] == key:
                return _where(layer, place, provenance_of(chain).references)
    return None


def _of_variable(cfg: Config, path: Path) -> tuple[str, str]:
    """Describe the use of a top-level key that no class reads."""
    known, key = provenance_of(cfg), path[0]
    if key in SHARED_KEYS and cfg[key] is None:
        return 'open: the data or the model decides', VARIABLE
    filled = [change.path for change in known.changes if change.by == (key,)]
    if filled:
        return f'fills {_and_more(filled)}', VARIABLE
    repeated = [place for place in known.references if _follow(place, known.references)[0] == key]
    repeated.sort(key=lambda place: (place[0] not in RUNNER_KEYS, list(cfg).index(place[0])))
    if repeated:
        return f'variable of {_and_more(repeated)}', VARIABLE
    if key in known.used:
        return 'variable of an expression', VARIABLE
    nothing = 'every place has its own value' if key in SHARED_KEYS else 'nothing reads it'
    # A variable of a base is optional, also where the base is looked at alone.
    is_own = max(layers_of(cfg, (key,)).values()).rank >= 0 and all(cfg.get(name) for name in TRAINING_KEYS)
    return nothing, UNREAD if is_own else PASSED_OVER


def _and_more(places: list[Path]) -> str:
    return dotted(places[0]) + (f' and {len(places) - 1} more' if len(places) > 1 else '')
