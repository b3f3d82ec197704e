"""The combined margins of SphereFace, ArcFace and CosFace."""

from typing import Union

import torch
from torch import Tensor

from hybridcls.functional import combined_margin_on_target
from hybridcls.registry import MODELS

from .margin import Margin


@MODELS.register_module()
class CombinedMargin(Margin):
    r"""Apply three margins together, :math:`\cos\theta_y \to \cos(m_1 \theta_y + m_2) - m_3`.

    Those of SphereFace, ArcFace and CosFace, eq. 4 of `ArcFace <https://arxiv.org/abs/1801.07698>`_. The switches, and
    what InsightFace's ``CombinedMarginLoss`` does otherwise, are described at
    :func:`hybridcls.functional.combined_margin_on_target`.

    Args:
        m1 (float): Factor of the angle, at least 1. Defaults to 1.
        m2 (float): Added to the angle, radians, in [0, pi). Defaults to 0.3.
        m3 (float): Taken off the cosine, in [0, 2]. Defaults to 0.2.
        beyond_pi (str): Past the angle that is turned to pi: 'linear' (default), 'easy', 'clip' or 'wrap'.
        gradient (str): 'analytic' (default) or 'straight_through'. The latter with ``beyond_pi='wrap'`` and
            ``m1=1, m3=0`` is InsightFace's ``CombinedMarginLoss``.

    Attributes:
        margin (float): m2, to read or to set (a warm-up).

    Raises:
        ValueError: If a margin is out of range or a switch is unknown.
    """

    def __init__(
        self, m1: float = 1.0, m2: float = 0.3, m3: float = 0.2, beyond_pi: str = 'linear', gradient: str = 'analytic'
    ) -> None:
        super().__init__()
        self.m1, self.margin, self.m3, self.beyond_pi, self.gradient = m1, m2, m3, beyond_pi, gradient
        combined_margin_on_target(torch.zeros(1), m1, m2, m3, beyond_pi, gradient)  # complains now, not later

    def with_margin(self, target_cosine: Tensor, norms: Tensor, margin: Union[float, Tensor]) -> Tensor:
        """Return the target logits for another m2: one number, or one for each row, ``(N,)``."""
        return combined_margin_on_target(target_cosine, self.m1, margin, self.m3, self.beyond_pi, self.gradient)

    def extra_repr(self) -> str:
        """Return the settings, for ``print(model)``."""
        return f'm1={self.m1}, m2={self.margin}, m3={self.m3}, beyond_pi={self.beyond_pi!r}, gradient={self.gradient!r}'
