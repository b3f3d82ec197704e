"""The quality-adaptive margin of AdaFace, and the running norm statistics that it depends on."""

import math
from typing import Union

import torch
from torch import Tensor

from hybridcls.checks import check_choice, check_number

from ..full_precision import at_least_float32
from .angular_margin import GRADIENTS, apply_with_gradient, one_margin_each, sine_of

__all__ = ['NORM_RANGE', 'adaptive_margin_on_target', 'moved_norm_statistics', 'norm_moments', 'norm_scaler']

NORM_RANGE = (1e-3, 100.0)  # the official code's clip
_EPSILON = 1e-3  # the official code's, in the denominator and as the distance of angles from 0 and pi


def adaptive_margin_on_target(
    target_cosine: Tensor,
    scaler: Tensor,
    margin: Union[float, Tensor] = 0.4,
    gradient: str = 'analytic',
    clip_angle: bool = True,
) -> Tensor:
    r"""Return AdaFace's target logit before the scale: :math:`\cos(\theta + g_{angle}) - g_{add}`.

    Section 3.3 of `AdaFace <https://arxiv.org/abs/2204.00964>`_, with :math:`g_{angle} = -m \hat z` and
    :math:`g_{add} = m \hat z + m`: a small norm (:math:`\hat z = -1`) gives ArcFace, a middling one (0) CosFace, a
    large one (1) an angular margin of the other sign, so that hard samples of low quality weigh less.

    The two official codes differ in what the paper leaves open:

    - mk-minchul/AdaFace clips :math:`\theta + g_{angle}` to [0.001, pi - 0.001] and differentiates through the angle:
      the defaults here. (It also clips all cosines to +-0.999: key ``cosine_clip`` of the margin heads.)
    - CVLFace does not clip (``clip_angle=False``) and writes the margin in without gradient
      (``gradient='straight_through'``).

    Args:
        target_cosine (Tensor): Cosines to the target classes, shape (N,), any floating dtype.
        scaler (Tensor): :math:`\hat z` in [-1, 1], shape (N,), from :func:`norm_scaler`; taken as a constant.
        margin (float | Tensor): m in radians and in units of the cosine, in [0, pi / 2]; one for all, or, as a tensor
            whose values are not looked at, one for each cosine. Defaults to 0.4.
        gradient (str): 'analytic' (default) or 'straight_through'.
        clip_angle (bool): Keep the turned angle within [0.001, pi - 0.001], without gradient outside. Defaults to True.

    Returns:
        Tensor: Shape (N,), in [-1 - 2m, 1]; float32, or float64 for a float64 input.

    Raises:
        ValueError: If the margin, the gradient or a shape is out of range.

    Example:
        >>> cosine = torch.tensor([0.5, 0.5])
        >>> low_quality, middling = adaptive_margin_on_target(cosine, torch.tensor([-1.0, 0.0]), margin=0.4)
        >>> round(low_quality.item(), 4), round(math.cos(math.acos(0.5) + 0.4), 4)  # ArcFace
        (0.1233, 0.1233)
        >>> round(middling.item(), 4)  # CosFace
        0.1
    """
    if isinstance(margin, Tensor):
        margin = one_margin_each('adaptive_margin', margin, target_cosine)
    else:
        check_number('adaptive_margin', 'margin', margin, 0, math.pi / 2, advice='It is an angle in radians.')
    check_choice('adaptive_margin', 'gradient', gradient, GRADIENTS)
    if scaler.shape != target_cosine.shape:
        raise ValueError(
            f'adaptive_margin: expected a norm scaler for each cosine, {tuple(target_cosine.shape)}, got '
            f'{tuple(scaler.shape)}.'
        )
    target_cosine = at_least_float32(target_cosine)
    scaler = scaler.detach().to(target_cosine.dtype)

    def add_margin(cosine: Tensor) -> Tensor:
        angle = -margin * scaler
        turned = cosine * angle.cos() - sine_of(cosine) * angle.sin()  # cos(theta + angle), finite slope at +-1
        if clip_angle:
            reached = cosine.detach().clamp(-1, 1).acos() + angle
            least = math.cos(_EPSILON)
            turned = turned.masked_fill(reached < _EPSILON, least).masked_fill(reached > math.pi - _EPSILON, -least)
        return turned - margin * (1 + scaler)

    return apply_with_gradient(target_cosine, add_margin, gradient)


def norm_scaler(norms: Tensor, mean: Tensor, std: Tensor, h: float = 0.333) -> Tensor:
    r"""Return the standardized deviation of each norm from the mean, in [-1, 1], as a measure of image quality.

    :math:`\hat z = \mathrm{clip}(h (\|z\| - \mu) / (\sigma + 10^{-3}), -1, 1)`, section 3.3 of AdaFace, with the
    official code's guard in the denominator. Norms are clipped to [0.001, 100] first.

    Args:
        norms (Tensor): Norms of the embeddings, shape (N,), any floating dtype.
        mean (Tensor): :math:`\mu`, one number.
        std (Tensor): :math:`\sigma`, one number.
        h (float): Share of the clip range that one standard deviation fills. Defaults to 0.333.

    Returns:
        Tensor: Shape (N,), float32 or float64, without gradient.

    Example:
        >>> norm_scaler(torch.tensor([10., 20., 500.]), torch.tensor(20.), torch.tensor(10.), h=0.5).round(decimals=2)
        tensor([-0.5000,  0.0000,  1.0000])
    """
    norms = at_least_float32(norms.detach()).clamp(*NORM_RANGE)
    return ((norms - mean) / (std + _EPSILON) * h).clamp(-1, 1)


@torch.no_grad()
def norm_moments(norms: Tensor) -> Tensor:
    r"""Return count, mean and summed squared deviations of norms, which can be combined over processes.

    Args:
        norms (Tensor): Norms of the embeddings, shape (N,), any floating dtype; clipped here to [0.001, 100]. Norms
            that are not finite are left out.

    Returns:
        Tensor: Shape (3,), float32 or float64; the same shape for every N, 0 included.

    Example:
        >>> norm_moments(torch.tensor([10., 12., 14.]))
        tensor([ 3., 12.,  8.])
    """
    norms = at_least_float32(norms.detach())
    counted = norms.isfinite()
    norms = torch.where(counted, norms.clamp(*NORM_RANGE), 0)
    count = counted.sum().to(norms.dtype)
    mean = norms.sum() / count.clamp(min=1)
    return torch.stack([count, mean, torch.where(counted, norms - mean, 0).square().sum()])


@torch.no_grad()
def moved_norm_statistics(moments: Tensor, mean: Tensor, std: Tensor, t_alpha: float = 0.01) -> tuple[Tensor, Tensor]:
    r"""Return the running mean and standard deviation of norms after a batch.

    :math:`\mu \leftarrow t_\alpha \mu_{batch} + (1 - t_\alpha) \mu`, and the same for :math:`\sigma` with the unbiased
    standard deviation, as in the official code. A batch of one norm has no standard deviation and moves the mean
    alone; a batch without any moves nothing. Nothing here waits for the device.

    Args:
        moments (Tensor): :func:`norm_moments` of each process, shape (processes, 3): merged without cancellation.
        mean (Tensor): :math:`\mu`, shape ().
        std (Tensor): :math:`\sigma`, shape ().
        t_alpha (float): Weight of the new batch, in [0, 1]. Defaults to 0.01.

    Returns:
        tuple[Tensor, Tensor]: The new mean and standard deviation, shape () each.

    Example:
        >>> moments = norm_moments(torch.tensor([10., 12., 14.])).unsqueeze(0)
        >>> moved_norm_statistics(moments, torch.tensor(20.), torch.tensor(100.), t_alpha=0.5)
        (tensor(16.), tensor(51.))
    """
    counts, means, squares = moments.unbind(1)
    total = counts.sum()
    batch_mean = (counts * means).sum() / total.clamp(min=1)
    total_squares = squares.sum() + (counts * (means - batch_mean).square()).sum()
    batch_std = (total_squares / (total - 1).clamp(min=1)).sqrt()
    return (
        torch.where(total > 0, t_alpha * batch_mean + (1 - t_alpha) * mean, mean),
        torch.where(total > 1, t_alpha * batch_std + (1 - t_alpha) * std, std),
    )
