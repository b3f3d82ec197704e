"""A profiler that sees which function gets each key of a config, by the calls that Python makes during a build."""

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any, NamedTuple

from hybridcls.engine.config.tree import Path
from hybridcls.signatures import REQUIRED, default_of

__all__ = ['BuiltPart', 'CallRecorder', 'Key']


class Key(NamedTuple):
    """One key of a part that is to be built; whether the part is called with it, or it is in a dict that is."""

    name: str
    path: Path
    value: Any
    is_argument: bool


class BuiltPart(NamedTuple):
    """A dict that a class is called with, with the keys in it that belong to no other part."""

    path: Path
    kind: type
    keys: list[Key]


class CallRecorder:
    """Watches the calls of a build.

    Attributes:
        readers (dict[Path, str]): Who got a key first.
        kept (dict[Path, str]): What keeps it, of an object that is built.
        built (set[Path]): The parts that were.
    """

    def __init__(self, parts: list[BuiltPart]) -> None:
        self.parts = parts
        self.readers: dict[Path, str] = {}
        self.kept: dict[Path, str] = {}
        self.built: set[Path] = set()
        self._of_kind: dict[type, list[BuiltPart]] = {}
        for part in parts:
            self._of_kind.setdefault(part.kind, []).append(part)
        self._names = {key.name for part in parts for key in part.keys}
        self._interest: dict[CodeType, tuple[set[str], set[str], str]] = {}
        self._building: list[tuple[FrameType, Any, list[BuiltPart]]] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record until the end of the block; a profiler that runs is back afterwards."""
        before, built = sys.getprofile(), set(self.built)
        sys.setprofile(self._watch)
        try:
            yield
        except Exception:  # what was begun may be unfinished
            self.built = built
            raise
        finally:
            sys.setprofile(before)
            self._building.clear()

    def _watch(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == 'call':
            if frame.f_code.co_name == '__init__':
                self._begin(frame)
            if self._building:
                self._look(frame)
        elif event == 'return' and self._building and self._building[-1][0] is frame:
            _, built, parts = self._building.pop()
            for part in parts:
                self.built.add(part.path)
                self._look_into(built, part)

    def _begin(self, frame: FrameType) -> None:
        """See whether this constructs parts of the config."""
        code = frame.f_code
        if not code.co_argcount:
            return
        mine = frame.f_locals.get(code.co_varnames[0])
        parts = self._of_kind.get(type(mine))
        if not parts or any(built is mine for _, built, _ in self._building):
            return
        given = frame.f_locals
        named = [name for name in _arguments(code) if name in self._names]
        fitting = [
            part
            for part in parts
            if all(_equal(given[key.name], key.value) for key in part.keys if key.name in named and key.is_argument)
        ]
        if fitting:
            self._building.append((frame, mine, fitting))

    def _look(self, frame: FrameType) -> None:
        """See which of the keys that are asked for this function gets."""
        code = frame.f_code
        if code not in self._interest:
            constants = {one for one in code.co_consts if isinstance(one, str)} & self._names
            keywords = (
                code.co_varnames[len(_arguments(code)) + bool(code.co_flags & inspect.CO_VARARGS)]
                if (code.co_flags & inspect.CO_VARKEYWORDS)
                else ''
            )
            self._interest[code] = ({*_arguments(code)} & self._names, constants, keywords)
        named, constants, keywords = self._interest[code]
        if not named and not (keywords and constants):
            return
        given = frame.f_locals
        others = given[keywords] if keywords else {}
        for _, _, parts in self._building:
            for part in parts:
                for key in part.keys:
                    if key.path in self.readers:
                        continue
                    by_name = key.name in named and _equal(given[key.name], key.value) and _was_given(frame, key)
                    if by_name or (key.name in constants and _holds(others, key)):
                        self.readers[key.path] = _caller(frame)

    def _look_into(self, built: Any, part: BuiltPart) -> None:
        """See what an object keeps, under the name of a key or in a dict that holds it."""
        for attribute, value in getattr(built, '__dict__', {}).items():
            for key in part.keys:
                if (attribute == key.name and _equal(value, key.value)) or _holds(value, key):
                    self.kept[key.path] = f'{part.kind.__qualname__}.{attribute}'


def _arguments(code: CodeType) -> tuple[str, ...]:
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _was_given(frame: FrameType, key: Key) -> bool:
    """Whether the caller hands the key on: an argument that only has its default would be equal by chance."""
    default = _default(frame, key.name)
    if default is REQUIRED or not _equal(default, key.value):
        return True
    if _is_fresh(key.value):
        return _is_same(frame.f_locals[key.name], key.value)
    caller = frame.f_back
    held = caller.f_locals.values() if caller is not None else ()
    return any(_holds(one, key) for one in held)


def _holds(value: Any, key: Key) -> bool:
    """Whether something is a dict with a key as the config has it."""
    return isinstance(value, dict) and key.name in value and _equal(value[key.name], key.value)


def _default(frame: FrameType, name: str) -> Any:
    """The default of an argument of a function that is running, if the function can be found."""
    code = frame.f_code
    first = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
    functions = [getattr(cls, code.co_name, None) for cls in type(first).__mro__] + [frame.f_globals.get(code.co_name)]
    for function in functions:
        if function is not None and getattr(inspect.unwrap(function), '__code__', None) is code:
            return default_of(function, name, REQUIRED)
    return REQUIRED


def _caller(frame: FrameType) -> str:
    return getattr(frame.f_code, 'co_qualname', frame.f_code.co_name).removesuffix('.__init__')  # Python 3.11 has it


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_equal, one, other))
    if type(one) is not type(other) and not (isinstance(one, dict) and isinstance(other, dict)):
        return False
    try:
        return bool(one == other)
    except Exception:  # arrays, tensors and what else has no truth
        return False


def _is_fresh(value: Any) -> bool:
    values = value if isinstance(value, (list, tuple)) else [value]
    return any(type(one) is float or (isinstance(one, str) and len(one) > 1) for one in values)


def _is_same(one: Any, other: Any) -> bool:
    """Whether two equal values are one object, or lists of the same objects."""
    if isinstance(one, (list, tuple)):
        return all(map(_is_same, one, other))
    return one is other
