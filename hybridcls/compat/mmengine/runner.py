"""mmengine's Runner draws the first weights in a private method, in whose place another function can stand here."""

from collections.abc import Callable
from typing import Optional

from mmengine.runner import Runner

__all__ = ['DrawingRunner']


class DrawingRunner(Runner):
    """mmengine's Runner that may draw the first weights by another function than the model's ``init_weights``.

    mmengine copies the whole state dict of the first process to all others when weights are drawn, which parameters
    that differ between processes do not survive.

    Attributes:
        draw_weights (Callable, optional): Called once when a training begins, after ``before_run`` of the hooks. None
            leaves it to mmengine.
    """

    draw_weights: Optional[Callable[[], None]] = None

    def _init_model_weights(self) -> None:
        if self.draw_weights is None:
            super()._init_model_weights()
        else:
            self.draw_weights()
