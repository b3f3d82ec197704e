"""Selective prediction: risk as a function of coverage, the share of images that are answered."""

import torch
from torch import Tensor

from hybridcls.checks import check_number

__all__ = ['area_under_risk_coverage', 'coverage_at_risk', 'least_area_under_risk_coverage', 'risk_coverage']


def risk_coverage(uncertainty: Tensor, errors: Tensor) -> Tensor:
    r"""Return the risk at each coverage 1/N, 2/N, ..., 1: the mean error of the n least uncertain images.

    Where images are equally uncertain, which of them come first is chance; here each of them counts with the mean error
    of them all, the expectation over every order. (Codes that sort give numbers that depend on the order of the files.)

    Args:
        uncertainty (Tensor): Shape (N,), higher is more unsure; NaN is most.
        errors (Tensor): What an answer costs, such as 1 where it is wrong and 0 where it is right, shape (N,).

    Returns:
        Tensor: Shape (N,), float64.

    Example:
        >>> risk_coverage(torch.tensor([0.1, 0.5, 0.5, 0.9]), torch.tensor([0, 1, 0, 1]))
        tensor([0.0000, 0.2500, 0.3333, 0.5000], dtype=torch.float64)
    """
    order = uncertainty.nan_to_num(torch.inf, torch.inf, -torch.inf).double().sort()
    errors = errors.double()[order.indices]
    _, group, counts = order.values.unique_consecutive(return_inverse=True, return_counts=True)
    means = torch.zeros(len(counts), dtype=torch.float64, device=errors.device).index_add_(0, group, errors) / counts
    return means[group].cumsum(0) / torch.arange(1, len(errors) + 1, device=errors.device)


def area_under_risk_coverage(uncertainty: Tensor, errors: Tensor) -> Tensor:
    r"""Return AURC, the mean risk over coverages (`Geifman et al. <https://arxiv.org/abs/1805.08206>`_, eq. 3 and 4).

    Without any information it is the error of all images; ties are averaged as in :func:`risk_coverage`.

    Args:
        uncertainty (Tensor): Shape (N,), higher is more unsure.
        errors (Tensor): Shape (N,).

    Returns:
        Tensor: A scalar, float64.

    Example:
        >>> area_under_risk_coverage(torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([0, 0, 0, 1]))
        tensor(0.0625, dtype=torch.float64)
    """
    return risk_coverage(uncertainty, errors).mean()


def coverage_at_risk(uncertainty: Tensor, errors: Tensor, risk: float) -> Tensor:
    """Return the largest coverage of a threshold whose answers have a mean error of at most ``risk``.

    Images of equal uncertainty are answered together or not at all. The threshold is the best one of *these* images: of
    others the error may be larger. (A threshold with a guarantee needs images of its own.)

    Args:
        uncertainty (Tensor): Shape (N,), higher is more unsure; NaN is most.
        errors (Tensor): What an answer costs, 0 or 1, shape (N,).
        risk (float): From 0 to 1.

    Returns:
        Tensor: A scalar in [0, 1], float64; 0 where no threshold is good enough.

    Example:
        >>> coverage_at_risk(torch.tensor([0.1, 0.2, 0.3, 0.3]), torch.tensor([0, 1, 0, 0]), 0.25)
        tensor(1., dtype=torch.float64)
        >>> coverage_at_risk(torch.tensor([0.1, 0.2, 0.3, 0.3]), torch.tensor([0, 1, 0, 0]), 0.2)
        tensor(0.2500, dtype=torch.float64)
    """
    check_number('coverage_at_risk', 'risk', risk, 0, 1)
    order = uncertainty.nan_to_num(torch.inf, torch.inf, -torch.inf).double().sort()
    answered = order.values.unique_consecutive(return_counts=True)[1].cumsum(0)  # by thresholds that rise
    wrong = errors.double()[order.indices].cumsum(0)[answered - 1]
    good = answered[wrong <= risk * answered + 1e-9]  # 0.29 * 100 is less than 29 in binary
    return (good.max() if len(good) else answered.new_zeros(())).double() / max(1, len(errors))


def least_area_under_risk_coverage(errors: Tensor, asymptotic: bool = False) -> Tensor:
    r"""Return the AURC of an optimal score, which knows the errors; E-AURC is the excess over it.

    `Geifman et al. <https://arxiv.org/abs/1805.08206>`_ subtract :math:`r + (1 - r) \log(1 - r)` (eq. 6), r the error
    of all images, which it is for many images. Their code (geifmany/uncertainty_ICLR, utils/uncertainty_tools.py) also
    divides the errors of the n least uncertain images by n + 1 at all coverages but the full one, and gives ties in the
    order of the images; neither is done here.

    Args:
        errors (Tensor): Shape (N,); 0 or 1 for the asymptotic form.
        asymptotic (bool): The formula for many images. Defaults to False: exact for these N.

    Returns:
        Tensor: A scalar, float64.

    Example:
        >>> least_area_under_risk_coverage(torch.tensor([1, 0, 0, 0]))
        tensor(0.0625, dtype=torch.float64)
    """
    if asymptotic:
        risk = errors.double().mean()
        return risk + torch.xlogy(1 - risk, 1 - risk)
    return area_under_risk_coverage(errors, errors)
