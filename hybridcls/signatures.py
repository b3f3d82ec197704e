"""What the constructor of a class can be given."""

import inspect
from typing import Any

__all__ = ['arguments_of', 'takes_argument']


def arguments_of(cls: Any) -> tuple[list[str], bool]:
    """Return the names of the arguments of a class or function, and whether these are all.

    Those of its bases are included where it passes ``**kwargs`` on; they are not all where these end nowhere known.

    Example:
        >>> class Head:
        ...     def __init__(self, num_classes): ...
        >>> class Linear(Head):
        ...     def __init__(self, bias=True, **kwargs): ...
        >>> arguments_of(Linear)
        (['bias', 'num_classes'], True)
    """
    names: list[str] = []
    for base in getattr(cls, '__mro__', [cls]):
        if inspect.isclass(base) and '__init__' not in vars(base):
            continue
        try:
            parameters = inspect.signature(base).parameters.values()
        except (TypeError, ValueError):  # a constructor in C
            return names, False
        names += [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            return names, True
    return names, False


def takes_argument(cls: Any, name: str) -> bool:
    """Whether the constructor of ``cls`` has an argument ``name``, itself or through ``**kwargs`` of its parents."""
    return name in arguments_of(cls)[0]
