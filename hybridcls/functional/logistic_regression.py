"""Multinomial logistic regression on features, by L-BFGS."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridcls.checks import check_number

from .full_precision import to_float64

__all__ = ['LinearClassifier', 'fit_logistic_regression']

_INVERSE_PENALTIES = (0.01, 0.1, 1.0, 10.0)
_FOLDS = 3
_MOST_IN_FOLDS = 4000  # images that the penalty is chosen with
_ROUGH = dict(max_iter=50, tolerance_grad=1e-4, tolerance_change=1e-6)  # is enough to choose
_EXACT = dict(max_iter=200, tolerance_grad=1e-6, tolerance_change=1e-9)

Loss = Callable[[Tensor, Tensor], Tensor]


class LinearClassifier(NamedTuple):
    """A linear classifier, whose outputs are ``features @ weight.T + bias``.

    Args:
        weight (Tensor): float64, ``(C, D)``.
        bias (Tensor): float64, ``(C,)``.
        inverse_penalty (float): That it was fitted with.
    """

    weight: Tensor
    bias: Tensor
    inverse_penalty: float


def fit_logistic_regression(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    inverse_penalty: Optional[float] = None,
    loss: Optional[Loss] = None,
) -> LinearClassifier:
    r"""Minimize the cross entropy with an L2 penalty on the weights, not on the bias.

    .. math::
        \sum_i CE(W \hat x_i + b, y_i) + \frac{1}{2 c} \lVert W \rVert^2, \quad \hat x = (x - \mu) / \sigma

    :math:`\mu` is the mean of each feature, :math:`\sigma` one number: the root of the mean variance, so that features
    that hardly vary are not blown up. That is scikit-learn's ``LogisticRegression(C=c)`` on :math:`\hat x`; what it
    does to the features is put into the result, which takes them as they are. Nothing is drawn: the same features give
    the same result. Probabilities are scikit-learn's to 1e-4, whatever the scale of the features. A feature whose
    standard deviation is below the rounding of its dtype (relative to its mean) counts as constant, and has no weight:
    else rounding errors would be told apart.

    Args:
        features (Tensor): ``(N, D)``, any floating dtype; computed in float64.
        labels (Tensor): Classes, int64 ``(N,)``; or 0 and 1, floating ``(N, C)``, for a binary logistic regression of
            each class: the sum of their cross entropies is minimized.
        num_classes (int): C. A class without an image gets a low score.
        inverse_penalty (float, optional): c > 0. Defaults to None: the one of 0.01, 0.1, 1 and 10 with the smallest
            cross entropy in three folds (of 4,000 images at most, evenly spaced).
        loss (Callable, optional): ``loss(outputs, labels)``, a mean over the images: minimized instead of the cross
            entropy in the end, from its minimum on. Defaults to None.

    Raises:
        ValueError: If shapes do not fit, or a feature is not finite.

    Example:
        >>> fit = fit_logistic_regression(torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([0, 0, 1, 1]), 2, 1)
        >>> (torch.tensor([[0.5], [2.5]]).double() @ fit.weight.T + fit.bias).argmax(1)
        tensor([0, 1])
    """
    several = labels.is_floating_point()
    if features.dim() != 2 or labels.shape != (len(features), *[num_classes] * several) or not len(labels):
        raise ValueError(
            f'fit_logistic_regression: expected features (N, D) and labels (N,) or (N, C) with N >= 1, got '
            f'{tuple(features.shape)} and {tuple(labels.shape)}.'
        )
    if not features.isfinite().all():
        raise ValueError('fit_logistic_regression: expected finite features, got NaN or infinity.')
    resolution = torch.finfo(features.dtype).eps
    features = to_float64(features)
    labels = labels.to(features.device)
    mean = features.mean(0)
    standard = features - mean
    largest = standard.abs().amax().clamp_min(torch.finfo(torch.float64).tiny)  # squares would overflow, or vanish
    standard /= largest
    varies = standard.square().mean(0).sqrt() > resolution * (mean / largest).abs()
    standard *= varies
    scale = standard.square().mean().sqrt()
    scale = torch.where(scale > 0, scale, 1.0)  # all images are the same
    standard /= scale
    scale = scale * largest
    basis = None
    if len(standard) < standard.shape[1]:  # the weights lie in the span of the images
        basis = torch.linalg.qr(standard.T).Q
        standard = standard @ basis
    if inverse_penalty is None:
        inverse_penalty = _chosen_penalty(standard, labels, num_classes)
    else:
        check_number('fit_logistic_regression', 'inverse_penalty', inverse_penalty, 0, low_open=True)
    start = LinearClassifier(standard.new_zeros(num_classes, standard.shape[1]), standard.new_zeros(num_classes), 1.0)
    fit = _minimize(standard, labels, start, inverse_penalty)
    if loss is not None:
        fit = _minimize(standard, labels, fit, inverse_penalty, loss)
    weight = (fit.weight if basis is None else fit.weight @ basis.T) / scale * varies
    return LinearClassifier(weight, fit.bias - weight @ mean, inverse_penalty)


def _minimize(
    features: Tensor,
    labels: Tensor,
    start: LinearClassifier,
    inverse_penalty: float,
    loss: Optional[Loss] = None,
    precision: Mapping[str, Any] = _EXACT,
) -> LinearClassifier:
    """Minimize the loss and the penalty, starting from ``start``."""
    weight, bias = (part.detach().clone().requires_grad_() for part in start[:2])
    optimizer = torch.optim.LBFGS([weight, bias], line_search_fn='strong_wolfe', **precision)
    loss = loss or _cross_entropy
    factor = 0.5 / (inverse_penalty * len(labels))

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(F.linear(features, weight, bias), labels) + factor * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(closure)
    return LinearClassifier(weight.detach(), bias.detach(), inverse_penalty)


def _cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    if not labels.is_floating_point():
        return F.cross_entropy(outputs, labels)
    return F.binary_cross_entropy_with_logits(outputs, labels.to(outputs), reduction='sum') / len(outputs)


def _chosen_penalty(features: Tensor, labels: Tensor, num_classes: int) -> float:
    """Return the inverse penalty with the smallest cross-validated cross entropy."""
    if len(labels) > _MOST_IN_FOLDS:
        chosen = torch.linspace(0, len(labels) - 1, _MOST_IN_FOLDS, dtype=torch.float64).long().to(labels.device)
        features, labels = features[chosen], labels[chosen]
    features = features.float()
    if labels.is_floating_point():
        turn = torch.arange(len(labels), device=labels.device)
        is_alone = torch.zeros_like(turn, dtype=torch.bool)
    else:
        turn, is_alone = _turn_in_class(labels), torch.bincount(labels, minlength=num_classes)[labels] == 1
    losses = dict.fromkeys(_INVERSE_PENALTIES, 0.0)
    for fold in range(_FOLDS):
        held_out = (turn % _FOLDS == fold) & ~is_alone  # the only image of a class is needed to fit it
        if not held_out.any():
            continue
        fit = LinearClassifier(features.new_zeros(num_classes, features.shape[1]), features.new_zeros(num_classes), 1.0)
        for inverse_penalty in _INVERSE_PENALTIES:  # each begins where the stronger penalty ended
            fit = _minimize(features[~held_out], labels[~held_out], fit, inverse_penalty, precision=_ROUGH)
            outputs = F.linear(features[held_out], fit.weight, fit.bias)
            losses[inverse_penalty] += float(_cross_entropy(outputs, labels[held_out])) * len(outputs)
    return min(losses, key=losses.__getitem__)


def _turn_in_class(labels: Tensor) -> Tensor:
    """Return for each image how many earlier ones have its class."""
    order = labels.argsort(stable=True)
    grouped = labels[order]
    first = torch.searchsorted(grouped, grouped)
    turn = torch.empty_like(labels)
    turn[order] = torch.arange(len(labels), device=labels.device) - first
    return turn
