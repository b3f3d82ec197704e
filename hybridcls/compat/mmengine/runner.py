"""Override mmengine's Runner: initial weights (a private method), and prints while a checkpoint is read."""

from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from io import StringIO
from typing import Any, Optional

from mmengine.runner import Runner

__all__ = ['AdaptedRunner']


class AdaptedRunner(Runner):
    """mmengine's Runner with an optional function that draws the initial weights instead of ``init_weights``.

    mmengine copies the whole state dict of the first process to all others when weights are drawn, which parameters
    that differ between processes do not survive.

    Reading a checkpoint prints no line about mmengine's backends, which no logger could filter.

    Attributes:
        draw_weights (Callable, optional): Called once when a training begins, after ``before_run`` of the hooks. None
            leaves it to mmengine.
    """

    draw_weights: Optional[Callable[[], None]] = None
    _reading: Optional[ExitStack] = None

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint as mmengine does, with its prints to stdout suppressed."""
        with ExitStack() as self._reading:
            self._reading.enter_context(redirect_stdout(StringIO()))
            return super().load_checkpoint(*args, **kwargs)

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call all hooks; the first call during a load ends the suppression of prints."""
        if self._reading is not None:
            self._reading.close()
        super().call_hook(fn_name, **kwargs)

    def _init_model_weights(self) -> None:
        if self.draw_weights is None:
            super()._init_model_weights()
        else:
            self.draw_weights()
