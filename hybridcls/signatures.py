"""What the constructor of a class can be given."""

import inspect
from typing import Any

__all__ = ['takes_argument']


def takes_argument(cls: Any, name: str) -> bool:
    """Whether the constructor of ``cls`` has an argument ``name``, itself or through ``**kwargs`` of its parents.

    Example:
        >>> class Head:
        ...     def __init__(self, num_classes): ...
        >>> class Linear(Head):
        ...     def __init__(self, bias=True, **kwargs): ...
        >>> takes_argument(Linear, 'num_classes'), takes_argument(Linear, 'classes')
        (True, False)
    """
    for ancestor in inspect.getmro(cls):
        constructor = ancestor.__dict__.get('__init__')
        if constructor is None:
            continue
        try:
            parameters = inspect.signature(constructor).parameters
        except (TypeError, ValueError):
            return False
        if name in parameters:
            return True
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
            return False
    return False
