"""The results of searching which class or function takes each key of a config."""

from typing import Any, NamedTuple, Optional

from .tree import Path

__all__ = ['INSIDE', 'READ', 'UNKNOWN', 'UNREAD', 'Taker', 'Takers', 'label']

READ, INSIDE, UNKNOWN, UNREAD = 'read', 'inside', 'unknown', 'unread'


class Taker(NamedTuple):
    """The class or function that takes a key.

    Args:
        name (str): A class or a function, as people call it; a remark where none is known.
        status (str): ``'read'``: a signature names the key. ``'inside'``: it stands in a dict that is an argument as a
            whole. ``'unknown'``: it disappears in a ``**kwargs``. ``'unread'``: nothing takes it.
    """

    name: str
    status: str = READ


class Takers:
    """The takers of all keys of a config.

    Attributes:
        found (dict[Path, Taker]): The keys.
        parts (dict[Path, Any]): The dicts that a class or function is called with, to that class or function.
    """

    def __init__(self) -> None:
        self.found: dict[Path, Taker] = {}
        self.parts: dict[Path, Any] = {}

    def at(self, path: Path) -> Optional[Taker]:
        """Return the taker of the value at a path, None for variables; deeper values count as inside the argument."""
        for length in range(len(path), 0, -1):
            taker = self.found.get(path[:length])
            if taker is not None:
                is_deeper = any(isinstance(key, str) for key in path[length:])
                if not is_deeper or taker.status != READ:
                    return taker
                return Taker(f'{taker.name}, in {path[length - 1]}', INSIDE)
        return None


def label(kind: Any, owner: Any = None) -> str:
    """Return the name of a class, with the base class that takes the key if that is not the class itself."""
    name = getattr(kind, '__qualname__', str(kind))
    if owner in (None, kind):
        return name
    package = f'{owner.__module__.split(".")[0]}.' if owner.__name__ == kind.__name__ else ''
    return f'{name} ({package}{owner.__qualname__})'
