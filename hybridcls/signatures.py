"""What the constructor of a class, or a function, can be given."""

import inspect
from typing import Any

__all__ = ['arguments_of', 'owners_of', 'takes_argument']


def owners_of(kind: Any) -> tuple[dict[str, Any], bool]:
    """Return who names each argument of a class or function, and whether these are all that it takes.

    Arguments of parents are included where ``**kwargs`` may be passed on to them; they are not all where the last
    ``**kwargs`` ends nowhere known.

    Example:
        >>> class Head:
        ...     def __init__(self, num_classes): ...
        >>> class Linear(Head):
        ...     def __init__(self, bias=True, **kwargs): ...
        >>> owners, are_all = owners_of(Linear)
        >>> {name: owner.__name__ for name, owner in owners.items()}, are_all
        ({'bias': 'Linear', 'num_classes': 'Head'}, True)
    """
    owners: dict[str, Any] = {}
    constructors = (
        [cls for cls in inspect.getmro(kind)[:-1] if '__init__' in vars(cls)] if inspect.isclass(kind) else []
    )
    for owner in constructors or [kind]:
        try:
            parameters = list(inspect.signature(vars(owner)['__init__'] if constructors else owner).parameters.values())
        except (TypeError, ValueError):  # written in C
            return owners, False
        for parameter in parameters[1:] if constructors else parameters:
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                owners.setdefault(parameter.name, owner)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return owners, True
    return owners, False


def arguments_of(kind: Any) -> tuple[list[str], bool]:
    """Return the names of the arguments of a class or function, and whether these are all: see :func:`owners_of`."""
    owners, are_all = owners_of(kind)
    return list(owners), are_all


def takes_argument(kind: Any, name: str) -> bool:
    """Whether the constructor of ``kind`` has an argument ``name``, itself or through ``**kwargs`` of its parents.

    Example:
        >>> class Head:
        ...     def __init__(self, num_classes): ...
        >>> class Linear(Head):
        ...     def __init__(self, bias=True, **kwargs): ...
        >>> takes_argument(Linear, 'num_classes'), takes_argument(Linear, 'classes')
        (True, False)
    """
    return name in owners_of(kind)[0]
