"""Read from signatures which arguments classes and functions take."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from functools import cache
from typing import Any

__all__ = [
    'REQUIRED',
    'arguments_of',
    'bound_arguments',
    'default_of',
    'owners_of',
    'takes_argument',
    'takes_positional',
]

REQUIRED: Any = inspect.Parameter.empty
"""The default of an argument that has none."""


def owners_of(kind: Any) -> tuple[dict[str, Any], bool]:
    """Return the class or function that names each argument, and whether these are all arguments.

    Arguments of parents are included where ``**kwargs`` may be passed on to them; they are not all where a
    ``**kwargs`` is used otherwise, or the last one ends nowhere known.

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
    ancestors = inspect.getmro(kind)[:-1] if inspect.isclass(kind) else ()  # without object, which takes nothing
    constructors = [cls for cls in ancestors if '__init__' in vars(cls)]
    are_all = True
    for owner in constructors or [kind]:
        function = vars(owner)['__init__'] if constructors else owner
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):  # written in C
            return owners, False
        for parameter in parameters[1:] if constructors else parameters:
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                owners.setdefault(parameter.name, owner)
        if owner.__module__ == 'torch.nn.modules.module' and owner.__name__ == 'Module':  # it refuses what it is given
            return owners, owner is constructors[0]
        rest = next((parameter.name for parameter in parameters if parameter.kind is parameter.VAR_KEYWORD), None)
        if rest is None:
            return owners, are_all
        are_all = are_all and _only_passes_on(function, rest)
    return owners, False


@cache  # it reads source files
def _only_passes_on(constructor: Callable, keywords: str) -> bool:
    """Return whether a constructor only passes its ``**kwargs`` on to a parent's."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(constructor))))
    except (OSError, TypeError, SyntaxError):
        return False
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == keywords]
    passed = [
        word.value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and getattr(call.func, 'attr', '') == '__init__'
        for word in call.keywords
        if word.arg is None
    ]
    return all(use in passed for use in uses)


def arguments_of(kind: Any) -> tuple[list[str], bool]:
    """Return the names of the arguments of a class or function, and whether these are all: see :func:`owners_of`."""
    owners, are_all = owners_of(kind)
    return list(owners), are_all


def takes_argument(kind: Any, name: str) -> bool:
    """Return whether ``kind``'s constructor takes an argument ``name``, itself or through its parents' ``**kwargs``.

    Example:
        >>> class Head:
        ...     def __init__(self, num_classes): ...
        >>> class Linear(Head):
        ...     def __init__(self, bias=True, **kwargs): ...
        >>> takes_argument(Linear, 'num_classes'), takes_argument(Linear, 'classes')
        (True, False)
    """
    return name in owners_of(kind)[0]


def default_of(kind: Any, name: str, otherwise: Any = None) -> Any:
    """Return the default of an argument of a class or function.

    Args:
        kind: A class or a function.
        name (str): Of the argument.
        otherwise: Returned where the argument must be given, or there is none of this name. Defaults to None.

    Example:
        >>> default_of(lambda momentum=0.9: None, 'momentum')
        0.9
    """
    owner = owners_of(kind)[0].get(name)
    default = inspect.signature(owner).parameters[name].default if owner is not None else REQUIRED
    return otherwise if default is REQUIRED else default


def bound_arguments(kind: Any, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name; those in ``**kwargs`` are included.

    Raises:
        TypeError: If it cannot be called so.

    Example:
        >>> bound_arguments(lambda interval, **others: None, (2,), dict(by_epoch=False))
        {'interval': 2, 'by_epoch': False}
    """
    signature = inspect.signature(kind)
    bound = signature.bind(*args, **kwargs).arguments
    rest = [name for name, parameter in signature.parameters.items() if parameter.kind is parameter.VAR_KEYWORD]
    extra = bound.pop(rest[0], {}) if rest else {}
    return {**bound, **extra}


def takes_positional(function: Callable, number: int) -> bool:
    """Return whether a function accepts so many positional arguments alone; True if Python cannot tell.

    Example:
        >>> takes_positional(lambda cosine, norms, labels, scale=1.0: None, 3), takes_positional(lambda cosine: None, 3)
        (True, False)
    """
    try:
        inspect.signature(function).bind(*[None] * number)
    except TypeError:
        return False
    except ValueError:  # written in C
        return True
    return True
