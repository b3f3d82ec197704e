"""Calibration errors of probabilities in bins: of equal width, of equal mass, and of each class."""

from typing import Optional

import torch
from torch import Tensor

from hybridcls.checks import check_number

__all__ = ['classwise_calibration_error', 'equal_mass_calibration_error', 'equal_width_gaps']


_BLOCK_NUMBERS = 2**24  # that are held at once, 128 MiB


def equal_width_gaps(
    confidence: Tensor, right: Tensor, bins: int = 15, weights: Optional[Tensor] = None
) -> tuple[Tensor, Tensor]:
    """Return the gap between mean confidence and accuracy in bins of equal width, and the share of images in each.

    Bins are [0, 1/bins), [1/bins, 2/bins) ...; as in torchmetrics a confidence of exactly 1 is a bin of its own. The
    expected calibration error is the mean of the gaps, weighted by the shares, the maximum calibration error the
    largest gap.

    Args:
        confidence (Tensor): Probabilities in [0, 1], (N,).
        right (Tensor): Whether what they claim is true, (N,).
        bins (int): Number of bins. Defaults to 15.
        weights (Tensor, optional): How often each image counts in each of R resamples, float64 (R, N). Defaults to
            None: once.

    Returns:
        tuple[Tensor, Tensor]: Absolute gaps, 0 in an empty bin, and shares, float64 (bins + 1,), or (R, bins + 1).

    Example:
        >>> gaps, shares = equal_width_gaps(torch.tensor([0.75, 0.75, 0.2]), torch.tensor([1, 0, 0]), bins=2)
        >>> round((gaps * shares).sum().item(), 4)  # (2 * 0.25 + 0.2) / 3
        0.2333
    """
    check_number('equal_width_gaps', 'bins', bins, 1, integer=True)
    confidence = confidence.double()
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    place = torch.bucketize(confidence, edges, right=True) - 1
    each = torch.ones(1, len(confidence), dtype=torch.float64) if weights is None else weights.double()
    empty = each.new_zeros(len(each), bins + 1)
    gaps = empty.index_add(1, place, each * (right.double() - confidence))
    counts = empty.index_add(1, place, each)
    gaps = (gaps / counts.clamp(min=1)).abs()
    shares = counts / counts.sum(1, keepdim=True)
    return (gaps, shares) if weights is not None else (gaps[0], shares[0])


def equal_mass_calibration_error(confidence: Tensor, right: Tensor, bins: int = 15) -> Tensor:
    """Return the expected calibration error with the same number of images in each bin (they differ by one at most).

    Which of several images of equal confidence fall in which bin is chance; here each counts with the mean success of
    them all, so that the order of the images does not matter.

    Args:
        confidence (Tensor): Probabilities in [0, 1], (N,), N >= 1.
        right (Tensor): Whether what they claim is true, (N,).
        bins (int): Number of bins; with fewer images, one a bin. Defaults to 15.

    Returns:
        Tensor: A scalar, float64.

    Example:
        >>> confidence = torch.tensor([0.9, 0.8, 0.7, 0.6])
        >>> round(equal_mass_calibration_error(confidence, torch.tensor([1, 1, 0, 0]), bins=2).item(), 4)
        0.4
    """
    check_number('equal_mass_calibration_error', 'bins', bins, 1, integer=True)
    ordered, order = confidence.double().sort()
    _, tie, counts = ordered.unique_consecutive(return_inverse=True, return_counts=True)
    of_tie = torch.zeros(len(counts), dtype=torch.float64).index_add_(0, tie, right.double()[order]) / counts
    residual = of_tie[tie] - ordered
    parts = residual.tensor_split(min(bins, len(ordered)))
    return torch.stack([part.sum().abs() for part in parts]).sum() / len(ordered)


def classwise_calibration_error(
    scores: Tensor, labels: Tensor, bins: int = 15, weights: Optional[Tensor] = None
) -> Tensor:
    r"""Return the mean over classes of the calibration error of their probabilities, in bins of equal width.

    For each class c the images are binned by their probability of c, not only those that are predicted as c (`Kull et
    al. <https://arxiv.org/abs/1910.12656>`_, sec. 2). With many classes most probabilities are near 0, and the mean is
    small by itself: compare models on the same classes only.

    Args:
        scores (Tensor): Probabilities, (N, C), N >= 1.
        labels (Tensor): int64 (N,), in [0, C).
        bins (int): Number of bins. Defaults to 15.
        weights (Tensor, optional): How often each image counts in each of R resamples, float64 (R, N). Defaults to
            None: once.

    Returns:
        Tensor: float64: a scalar, or (R,).

    Example:
        >>> round(classwise_calibration_error(torch.tensor([[0.8, 0.2]]), torch.tensor([0])).item(), 4)
        0.2
    """
    check_number('classwise_calibration_error', 'bins', bins, 1, integer=True)
    count, classes = scores.shape
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    each = torch.ones(1, count, dtype=torch.float64) if weights is None else weights.double()
    total = each.new_zeros(len(each))
    at_once = max(1, _BLOCK_NUMBERS // (count * (bins + 1)))
    for first in range(0, classes, at_once):
        block = scores[:, first : first + at_once].double()
        place = torch.bucketize(block, edges, right=True) - 1
        residual = (labels.unsqueeze(1) == torch.arange(first, first + block.shape[1])).double() - block
        in_bins = residual.new_zeros(*block.shape, bins + 1).scatter_(2, place.unsqueeze(2), residual.unsqueeze(2))
        total += (each @ in_bins.flatten(1)).abs().sum(1)
    found = total / each.sum(1) / classes
    return found if weights is not None else found[0]
