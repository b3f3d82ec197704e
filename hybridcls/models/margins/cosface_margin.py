"""The margin of CosFace."""

from typing import Union

import torch
from torch import Tensor

from hybridcls.functional import additive_cosine_margin_on_target
from hybridcls.registry import MODELS

from .margin import Margin


@MODELS.register_module('CosFace')
class CosFaceMargin(Margin):
    r"""The additive cosine margin, :math:`\cos\theta_y \to \cos\theta_y - m`.

    Eq. 4 of `CosFace <https://arxiv.org/abs/1801.09414>`_; AM-Softmax is the same.

    Args:
        margin (float): m, in [0, 2]. Defaults to 0.35, as in the paper (InsightFace's class has 0.4).

    Raises:
        ValueError: If the margin is out of range.
    """

    def __init__(self, margin: float = 0.35) -> None:
        super().__init__()
        self.margin = margin
        additive_cosine_margin_on_target(torch.zeros(1), margin)  # complains now, not at the first batch

    def with_margin(self, target_cosine: Tensor, norms: Tensor, margin: Union[float, Tensor]) -> Tensor:
        """Return the target logits for another margin: one number, or one for each row, ``(N,)``."""
        return additive_cosine_margin_on_target(target_cosine, margin)

    def extra_repr(self) -> str:
        """Return the settings, for ``print(model)``."""
        return f'margin={self.margin}'
