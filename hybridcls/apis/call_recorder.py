"""Record which function receives each key of a config, by a profiler that sees all calls while it is built."""

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
    """One key of a part; ``is_argument`` tells an argument of the part from a key inside a dict argument."""

    name: str
    path: Path
    value: Any
    is_argument: bool


class BuiltPart(NamedTuple):
    """The config of one class, with its keys, except those of the parts inside it."""

    path: Path
    kind: type
    keys: list[Key]


class CallRecorder:
    """Record all function calls while a config is built.

    Attributes:
        readers (dict[Path, str]): The first function that received a key.
        kept (dict[Path, str]): The attribute of a built object that stores it.
        built (set[Path]): The parts that were built.
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
        """Record until the end of the block; an active profiler is restored afterwards."""
        before, built = sys.getprofile(), set(self.built)
        sys.setprofile(self._watch)
        try:
            yield
        except Exception:  # parts may be incomplete
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
        """Check whether this call constructs parts of the config."""
        code = frame.f_code
        if not code.co_argcount:
            return
        instance = frame.f_locals.get(code.co_varnames[0])
        parts = self._of_kind.get(type(instance))
        if not parts or any(built is instance for _, built, _ in self._building):
            return
        given = frame.f_locals
        named = [name for name in _arguments(code) if name in self._names]
        fitting = [
            part
            for part in parts
            if all(_equal(given[key.name], key.value) for key in part.keys if key.name in named and key.is_argument)
        ]
        if fitting:
            self._building.append((frame, instance, fitting))

    def _look(self, frame: FrameType) -> None:
        """Check which keys this function receives."""
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
        """Check which keys an object stores, by name or inside a dict."""
        for attribute, value in getattr(built, '__dict__', {}).items():
            for key in part.keys:
                if (attribute == key.name and _equal(value, key.value)) or _holds(value, key):
                    self.kept[key.path] = f'{part.kind.__qualname__}.{attribute}'


def _arguments(code: CodeType) -> tuple[str, ...]:
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _was_given(frame: FrameType, key: Key) -> bool:
    """Return whether the caller passed the key; a default value that is equal by chance does not count."""
    default = _default(frame, key.name)
    if default is REQUIRED or not _equal(default, key.value):
        return True
    if _is_fresh(key.value):
        return _is_same(frame.f_locals[key.name], key.value)
    caller = frame.f_back
    held = caller.f_locals.values() if caller is not None else ()
    return any(_holds(one, key) for one in held)


def _holds(value: Any, key: Key) -> bool:
    """Return whether ``value`` is a dict with the key and its value."""
    return isinstance(value, dict) and key.name in value and _equal(value[key.name], key.value)


def _default(frame: FrameType, name: str) -> Any:
    """Return the default of an argument of the running function, if the function can be found."""
    code = frame.f_code
    first = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
    functions = [getattr(cls, code.co_name, None) for cls in type(first).__mro__] + [frame.f_globals.get(code.co_name)]
    for function in functions:
        if function is not None and getattr(inspect.unwrap(function), '__code__', None) is code:
            return default_of(function, name, REQUIRED)
    return REQUIRED


def _caller(frame: FrameType) -> str:
    return getattr(frame.f_code, 'co_qualname', frame.f_code.co_name).removesuffix('.__init__')  # since Python 3.11


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_equal, one, other))
    if type(one) is not type(other) and not (isinstance(one, dict) and isinstance(other, dict)):
        return False
    try:
        return bool(one == other)
    except Exception:  # arrays and tensors have no truth value
        return False


def _is_fresh(value: Any) -> bool:
    values = value if isinstance(value, (list, tuple)) else [value]
    return any(type(one) is float or (isinstance(one, str) and len(one) > 1) for one in values)


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two equal values are one object, or lists of the same objects."""
    if isinstance(one, (list, tuple)):
        return all(map(_is_same, one, other))
    return one is other
