"""What we need of torch beyond its public names. Run with torch 2.14."""

from collections.abc import Callable
from typing import Any

import torch
from torch._C._dynamo.eval_frame import set_eval_frame

__all__ = ['call_compiled_by', 'compiler_in_use']


@torch.compiler.disable(recursive=False)
def compiler_in_use() -> Any:
    """Return what torch.compile does to the code that runs now, for :func:`call_compiled_by`; None is nothing."""
    compiler = set_eval_frame(None)
    set_eval_frame(compiler)
    return compiler


def call_compiled_by(compiler: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call ``function`` as code was called where :func:`compiler_in_use` gave ``compiler``: compiled alike, or not."""
    here = set_eval_frame(compiler)
    try:
        return function(*args, **kwargs)
    finally:
        set_eval_frame(here)
