"""What we need of torch beyond its public names. Run with torch 2.14."""

import sys
from collections.abc import Callable
from typing import Any, Optional

import torch
from torch._C._dynamo.eval_frame import set_eval_frame
from torch._utils import ExceptionWrapper
from torch.utils.data._utils import worker

__all__ = ['call_compiled_by', 'carry_sentences_out_of_workers', 'compiler_in_use']


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


def carry_sentences_out_of_workers(explain: Callable[[BaseException], Optional[str]]) -> None:
    """Let an error of a data loader's worker arrive with its own text, if ``explain`` has a sentence for it.

    A worker hands on the type of its error and the printed traceback, and torch raises that type with the traceback as
    its text. Only in the worker can the error itself be looked at, so what torch sends from there is replaced.

    Args:
        explain: Returns the sentence to show for an error, or None: then torch goes on as ever.
    """
    _SentenceWrapper.explain = staticmethod(explain)
    worker.ExceptionWrapper = _SentenceWrapper  # type: ignore[misc]


class _SentenceWrapper(ExceptionWrapper):
    """An error on its way from a worker, and the sentence for it."""

    explain: Callable[[BaseException], Optional[str]]

    def __init__(self, exc_info: Any = None, where: str = 'in background') -> None:
        exc_info = exc_info or sys.exc_info()
        super().__init__(exc_info, where)
        self.sentence = self.explain(exc_info[1])

    def reraise(self) -> None:
        """Raise the error again, in the process that waits for the batch."""
        if self.sentence is None:
            super().reraise()
        try:
            error = self.exc_type(self.sentence)
        except Exception:  # its constructor takes something else
            error = RuntimeError(self.sentence)
        raise error from RuntimeError(f'{self.where}:\n{self.exc_msg}')
