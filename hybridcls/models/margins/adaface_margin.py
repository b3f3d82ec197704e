"""The margin of AdaFace, with its running statistics of embedding norms."""

from typing import Union

import torch
from torch import Tensor

from hybridcls.checks import check_number
from hybridcls.functional import adaptive_margin_on_target, moved_norm_statistics, norm_moments, norm_scaler
from hybridcls.registry import MODELS

from .margin import Margin
from .norm_statistics import update_norm_statistics


@MODELS.register_module('AdaFace')
class AdaFaceMargin(Margin):
    r"""A margin that adapts to image quality, measured by the norm of the embedding.

    `AdaFace <https://arxiv.org/abs/2204.00964>`_, section 3.3; the formulas and switches are described at
    :func:`hybridcls.functional.adaptive_margin_on_target`. The embedding must reach the head unnormalized: behind a
    layer that normalizes it, all norms are equal and nothing adapts.

    The buffers ``norm_mean`` and ``norm_std`` start at 20 and 100, as in the official code, and move once in every
    forward pass in training mode, before they are used; over the norms of all processes together, so that every
    process has the same ones. They are in the checkpoint. In evaluation mode nothing moves, and no process waits for
    another. A single norm has no standard deviation: it moves the mean alone.

    Args:
        margin (float): m, in [0, pi / 2]. Defaults to 0.4.
        h (float): Concentration, >= 0: the share of [-1, 1] that one standard deviation of the norms fills. With 0 it
            is CosFace. Defaults to 0.333.
        t_alpha (float): Weight of the new batch in the running statistics, in [0, 1]. Defaults to 0.01, as in the paper
            (the class in the official code has 1.0, its scripts 0.01).
        gradient (str): 'analytic' (default) or 'straight_through' (CVLFace).
        clip_angle (bool): Keep the turned angle within [0, pi], up to 0.001. Defaults to True; CVLFace does not.

    Raises:
        ValueError: If a number is out of range or a switch is unknown.
    """

    norm_mean: Tensor
    norm_std: Tensor

    def __init__(
        self,
        margin: float = 0.4,
        h: float = 0.333,
        t_alpha: float = 0.01,
        gradient: str = 'analytic',
        clip_angle: bool = True,
    ) -> None:
        super().__init__()
        check_number('AdaFace', 'h', h, 0)
        check_number('AdaFace', 't_alpha', t_alpha, 0, 1)
        self.margin, self.h, self.t_alpha, self.gradient, self.clip_angle = margin, h, t_alpha, gradient, clip_angle
        adaptive_margin_on_target(torch.zeros(1), torch.zeros(1), margin, gradient)  # complains now, not later
        self.register_buffer('norm_mean', torch.tensor(20.0))
        self.register_buffer('norm_std', torch.tensor(100.0))

    def with_margin(self, target_cosine: Tensor, norms: Tensor, margin: Union[float, Tensor]) -> Tensor:
        """Return the target logits for another margin: one number, or one for each row, ``(N,)``."""
        if self.training:
            update_norm_statistics(norms, self.norm_mean, self.norm_std, self.t_alpha)
        scaler = norm_scaler(norms, self.norm_mean, self.norm_std, self.h)
        return adaptive_margin_on_target(target_cosine, scaler, margin, self.gradient, self.clip_angle)

    @torch.no_grad()
    def start_with_norms(self, norms: Tensor) -> None:
        """Set the running statistics to those of norms, ``(N,)``, instead of the official code's 20 and 100."""
        mean, std = moved_norm_statistics(norm_moments(norms).unsqueeze(0), self.norm_mean, self.norm_std, 1.0)
        self.norm_mean.copy_(mean)
        self.norm_std.copy_(std)

    def log_scalars(self) -> dict[str, Tensor]:
        """Return the running statistics of the norms."""
        return dict(norm_mean=self.norm_mean.clone(), norm_std=self.norm_std.clone())

    def extra_repr(self) -> str:
        """Return the settings, for ``print(model)``."""
        return (
            f'margin={self.margin}, h={self.h}, t_alpha={self.t_alpha}, gradient={self.gradient!r}, '
            f'clip_angle={self.clip_angle}'
        )
