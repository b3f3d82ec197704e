"""The losses of evidential classification: a Dirichlet distribution against labels, hard or soft."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hybridcls.checks import check_choice

from ..full_precision import to_float64

__all__ = ['EVIDENTIAL_FORMS', 'dirichlet_kl_to_uniform', 'evidential_data_loss', 'misleading_evidence']

EVIDENTIAL_FORMS = ('sum_of_squares', 'log', 'digamma')


def evidential_data_loss(evidence: Tensor, targets: Tensor, form: str = 'sum_of_squares') -> Tensor:
    r"""Return the risk of the labels under :math:`Dir(\alpha)`, :math:`\alpha = e + 1`, one number a sample.

    `Sensoy et al. <https://arxiv.org/abs/1806.01768>`_, with :math:`S = \sum_j \alpha_j` and
    :math:`\hat p = \alpha / S`:

    - ``'log'``, eq. 3 (type II maximum likelihood): :math:`\sum_j y_j (\log S - \log \alpha_j)`
    - ``'digamma'``, eq. 4 (the expected cross entropy): :math:`\sum_j y_j (\psi(S) - \psi(\alpha_j))`
    - ``'sum_of_squares'``, eq. 5 (the expected Brier score):
      :math:`\sum_j (y_j - \hat p_j)^2 + \hat p_j (1 - \hat p_j) / (S + 1)`

    Soft labels go into the same formulas. For the first two that is the mean of the hard labels' losses, weighted by
    y, which is what mixup means; for the third it is that mean less :math:`1 - \sum_j y_j^2`, which no weight of the
    network changes: the gradient is mixup's too.

    It is computed in float64: the digamma functions of S and of alpha nearly cancel where there are many classes.

    Args:
        evidence (Tensor): e >= 0, shape (N, K), any floating dtype.
        targets (Tensor): Classes, int64 (N,), or probabilities that sum to 1, floating (N, K).
        form (str): Which of the three. Defaults to ``'sum_of_squares'``.

    Returns:
        Tensor: Shape (N,), float64, >= 0; on the CPU for a device that has no float64 (MPS).

    Raises:
        ValueError: If the form is unknown or the shapes do not fit.
        TypeError: If targets of shape (N,) are not integers.

    Example:
        >>> evidence = torch.tensor([[2., 0.], [0., 0.]])
        >>> evidential_data_loss(evidence, torch.tensor([0, 0]), 'log').exp()  # S / alpha of the target class
        tensor([1.3333, 2.0000], dtype=torch.float64)
    """
    check_choice('evidential_data_loss', 'form', form, EVIDENTIAL_FORMS)
    _check_targets('evidential_data_loss', evidence, targets)
    alpha = to_float64(evidence) + 1
    targets = targets.to(alpha.device)
    strength = alpha.sum(1)
    soft = targets.is_floating_point()
    if form == 'sum_of_squares':
        mean = alpha / strength.unsqueeze(1)
        squares = mean.square().sum(1)
        if soft:
            distance = (targets - mean).square().sum(1)
        else:  # no matrix of labels
            distance = 1 - 2 * _own(mean, targets) + squares
        return distance + (1 - squares) / (strength + 1)
    function = torch.log if form == 'log' else torch.digamma
    if soft:
        return (targets.double() * (function(strength).unsqueeze(1) - function(alpha))).sum(1)
    return function(strength) - function(_own(alpha, targets))


def misleading_evidence(evidence: Tensor, targets: Tensor) -> Tensor:
    r"""Return :math:`(1 - y) e`, the evidence for non-target classes: :math:`\tilde\alpha = y + (1 - y)\alpha`.

    Of a soft label's class the share 1 - y is misleading.

    Args:
        evidence (Tensor): e >= 0, shape (N, K).
        targets (Tensor): Classes, int64 (N,), or probabilities, floating (N, K).

    Returns:
        Tensor: Shape (N, K), :math:`\tilde\alpha - 1`.

    Raises:
        ValueError, TypeError: As :func:`evidential_data_loss`.

    Example:
        >>> misleading_evidence(torch.tensor([[2., 3.]]), torch.tensor([1]))
        tensor([[2., 0.]])
    """
    _check_targets('misleading_evidence', evidence, targets)
    if targets.is_floating_point():
        return (1 - targets.to(evidence.dtype)) * evidence
    return evidence.scatter(1, targets.long().unsqueeze(1), 0.0)


def dirichlet_kl_to_uniform(evidence: Tensor) -> Tensor:
    r"""Return the KL divergence of :math:`Dir(\alpha)`, :math:`\alpha = e + 1`, from :math:`Dir(1, ..., 1)`, in nats.

    .. math::
        \log\Gamma(S) - \log\Gamma(K) - \sum_j \log\Gamma(\alpha_j) + \sum_j e_j (\psi(\alpha_j) - \psi(S))

    In float32 the terms, of the size of :math:`K \log K`, leave nothing of a small divergence: at K = 10,000 and
    alpha near 1 it comes out negative. Here all of it is float64, and e, not alpha, is what comes in, so that evidence
    below float32's 1e-7 is not lost in the sum with 1.

    Args:
        evidence (Tensor): e >= 0, shape (N, K), any floating dtype.

    Returns:
        Tensor: Shape (N,), float64, >= 0 up to 1e-10; on the CPU for a device that has no float64 (MPS).

    Example:
        >>> dirichlet_kl_to_uniform(torch.tensor([[0., 0., 0.], [9., 0., 0.]])).abs().round(decimals=4)
        tensor([0.0000, 2.2892], dtype=torch.float64)
    """
    return _KLToUniform.apply(evidence)


class _KLToUniform(torch.autograd.Function):
    """KL divergence to the uniform Dirichlet distribution with a closed-form gradient.

    The terms with the digamma functions' derivatives cancel in the gradient, so autograd would compute them in vain:
    e_j psi'(alpha_j) - psi'(S) sum(e) is what remains. Only the evidence is kept for it, in its own precision.
    """

    @staticmethod
    def forward(ctx: Any, evidence: Tensor) -> Tensor:
        ctx.save_for_backward(evidence)
        evidence = to_float64(evidence)
        num_classes = evidence.shape[1]
        alpha = evidence + 1
        total = evidence.sum(1)
        strength = total + num_classes
        each = torch.digamma(alpha).mul_(evidence).sub_(torch.lgamma(alpha))
        return each.sum(1) + (torch.lgamma(strength) - math.lgamma(num_classes) - total * torch.digamma(strength))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (own,) = ctx.saved_tensors
        evidence = to_float64(own)
        total = evidence.sum(1, keepdim=True)
        slope = torch.polygamma(1, evidence + 1).mul_(evidence)
        slope -= total * torch.polygamma(1, total + evidence.shape[1])
        return slope.mul_(grad.unsqueeze(1)).to(own.dtype).to(own.device)


def _own(values: Tensor, classes: Tensor) -> Tensor:
    return values.gather(1, classes.long().unsqueeze(1)).squeeze(1)


def _check_targets(caller: str, evidence: Tensor, targets: Tensor) -> None:
    if evidence.dim() != 2 or targets.shape not in (evidence.shape, evidence.shape[:1]):
        raise ValueError(
            f'{caller}: evidence {tuple(evidence.shape)} and targets {tuple(targets.shape)} do not fit: '
            '(N, K) wants classes (N,) or probabilities (N, K).'
        )
    if targets.is_floating_point() != (targets.dim() == 2) or targets.dtype == torch.bool:
        raise TypeError(
            f'{caller}: targets of shape {tuple(targets.shape)} are {targets.dtype}; classes (N,) are whole '
            'numbers, probabilities (N, K) are floating.'
        )
