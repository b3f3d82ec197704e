"""The margin of ArcFace."""

from typing import Union

import torch
from torch import Tensor

from hybridcls.functional import angular_margin_on_target
from hybridcls.registry import MODELS

from .margin import Margin


@MODELS.register_module('ArcFace')
class ArcFaceMargin(Margin):
    r"""The additive angular margin, :math:`\cos\theta_y \to \cos(\theta_y + m)`.

    Eq. 3 of `ArcFace <https://arxiv.org/abs/1801.07698>`_. The switches are described at
    :func:`hybridcls.functional.angular_margin_on_target`; the defaults are those of InsightFace's class ``ArcFace``.

    Args:
        margin (float): m in radians, in [0, pi). Defaults to 0.5.
        beyond_pi (str): Past theta = pi - m: 'linear' (default), 'easy', 'clip' or 'wrap'.
        gradient (str): 'analytic' (default) or 'straight_through'.

    Raises:
        ValueError: If the margin is out of range or a switch is unknown.
    """

    def __init__(self, margin: float = 0.5, beyond_pi: str = 'linear', gradient: str = 'analytic') -> None:
        super().__init__()
        self.margin, self.beyond_pi, self.gradient = margin, beyond_pi, gradient
        angular_margin_on_target(torch.zeros(1), margin, beyond_pi, gradient)  # complains now, not at the first batch

    def with_margin(self, target_cosine: Tensor, norms: Tensor, margin: Union[float, Tensor]) -> Tensor:
        """Return the target logits for another margin: one number, or one for each row, ``(N,)``."""
        return angular_margin_on_target(target_cosine, margin, self.beyond_pi, self.gradient)

    def extra_repr(self) -> str:
        """Return the settings, for ``print(model)``."""
        return f'margin={self.margin}, beyond_pi={self.beyond_pi!r}, gradient={self.gradient!r}'
