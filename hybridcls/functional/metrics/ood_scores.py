"""Scores of out-of-distribution detection: images of unknown classes against those of known ones."""

import torch
from torch import Tensor

from hybridcls.checks import check_choice, check_number

__all__ = ['aupr', 'auroc', 'fpr_at_tpr']


def auroc(known: Tensor, unknown: Tensor) -> Tensor:
    r"""Return the area under the ROC curve: the share of pairs with the higher score on the unknown image; ties half.

    Args:
        known (Tensor): Scores of images of known categories, shape (N,); *higher means more unknown*.
        unknown (Tensor): Scores of images of unknown categories, shape (M,). 0.5 is chance, 1 is perfect.

    Returns:
        Tensor: A scalar, float64; NaN where one side is empty.

    Example:
        >>> auroc(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.2, 0.9]))  # 1.5 + 3 of 6 pairs
        tensor(0.7500, dtype=torch.float64)
    """
    known, unknown = known.double().sort().values, unknown.double()
    below = torch.searchsorted(known, unknown, right=False)
    not_above = torch.searchsorted(known, unknown, right=True)
    return (below + not_above).double().mean() / 2 / len(known) if len(known) else unknown.new_tensor(torch.nan)


def fpr_at_tpr(known: Tensor, unknown: Tensor, at: float = 0.95) -> Tensor:
    """Return the share of unknown images accepted as known when at least the share ``at`` of known ones is accepted.

    *Known* is the positive side, as where FPR95 comes from (`Hendrycks and Gimpel <https://arxiv.org/abs/1610.02136>`_
    and most of the literature since). Codes with the unknown as positive give another number. An image is accepted if
    its score is at most the threshold, the smallest score of a known image that accepts enough of them.

    Args:
        known (Tensor): Scores of images of known categories, shape (N,); *higher means more unknown*.
        unknown (Tensor): Scores of images of unknown categories, shape (M,). 0 is perfect.
        at (float): The share of known images to accept, in (0, 1]. Defaults to 0.95.

    Returns:
        Tensor: A scalar, float64; NaN where one side is empty.

    Example:
        >>> fpr_at_tpr(torch.tensor([0.1, 0.2, 0.3, 0.9]), torch.tensor([0.25, 0.5]), at=0.75)
        tensor(0.5000, dtype=torch.float64)
    """
    check_number('fpr_at_tpr', 'at', at, 0, 1, low_open=True)
    known, unknown = known.double().sort().values, unknown.double()
    if not len(known):
        return unknown.new_tensor(torch.nan)
    # The smallest number of images that is at least the share; 0.95 * 20 is not quite 19 in binary.
    accepted = -int(-(at * len(known) - 1e-9) // 1)
    return (unknown <= known[accepted - 1]).double().mean()


def aupr(known: Tensor, unknown: Tensor, positive: str = 'unknown') -> Tensor:
    r"""Return the area under the precision-recall curve (``average_precision_score``); ties are one threshold.

    Papers give it either way round: *AUPR-Out* with the unknown images as the positive side, *AUPR-In* with the known
    ones, and the signs of the scores turned. Chance is the share of the positive side, so that numbers of sets with
    other shares cannot be compared.

    Args:
        known (Tensor): Scores of images of known categories, shape (N,); *higher means more unknown*.
        unknown (Tensor): Scores of images of unknown categories, shape (M,).
        positive (str): ``'unknown'`` or ``'known'``. Defaults to ``'unknown'``.

    Returns:
        Tensor: A scalar, float64; NaN where one side is empty.

    Example:
        >>> aupr(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.25, 0.9]))  # (1 + 2/3) / 2
        tensor(0.8333, dtype=torch.float64)
    """
    check_choice('aupr', 'positive', positive, ('unknown', 'known'))
    negatives, positives = (known, unknown) if positive == 'unknown' else (-unknown, -known)
    if not len(negatives) or not len(positives):
        return torch.tensor(torch.nan, dtype=torch.float64)
    values, place = torch.cat([negatives, positives]).double().unique(return_inverse=True)
    found, falsely = (
        torch.bincount(part, minlength=len(values)).flip(0)  # by thresholds that fall
        for part in (place[len(negatives) :], place[: len(negatives)])
    )
    precision = found.cumsum(0).double() / (found + falsely).cumsum(0)
    return (precision * found).sum() / len(positives)
