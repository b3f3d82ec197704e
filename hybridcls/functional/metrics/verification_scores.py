"""Verification scores: similarities of genuine pairs (one identity) against impostor pairs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hybridcls.checks import check_choice, check_number

__all__ = ['ROC_POINTS', 'fold_accuracies', 'max_false_accepts', 'roc_on_grid', 'true_accept_rates']

ROC_POINTS = ('below', 'nearest')

_STEP = 0.01  # of the grid of thresholds in InsightFace's verification.py, which AdaFace and CVLFace took over
_GRID = 400


def max_false_accepts(rate: float, impostors: int) -> int:
    """Return how many impostor pairs may be accepted at a false accept rate.

    Example:
        >>> max_false_accepts(0.1, 1000), max_false_accepts(0.001, 999)
        (100, 0)
    """
    return int(rate * impostors + 1e-9)  # 0.29 * 100 is less than 29 in binary


def true_accept_rates(genuine: Tensor, impostor: Tensor, rates: Sequence[float], point: str = 'below') -> Tensor:
    """Return TAR at FAR: the largest share of genuine pairs accepted with at most so many impostor pairs.

    A pair is accepted if its similarity is above a threshold; pairs of equal similarity are accepted together or not at
    all. InsightFace's scores on IJB (recognition/arcface_torch/eval_ijbc.py) take, of the corners of scikit-learn's
    curve, the one that is nearest to the rate on either side, so that more impostor pairs than asked for may be
    accepted: ``point='nearest'``. Of corners that are equally near the one with the higher rates counts.

    Args:
        genuine (Tensor): Similarities of pairs of one identity, shape (G,); *higher is more alike*.
        impostor (Tensor): Similarities of pairs of two identities, shape (I,).
        rates (Sequence[float]): False accept rates, each in [0, 1].
        point (str): ``'below'``, or ``'nearest'``. Defaults to ``'below'``.

    Returns:
        Tensor: One number a rate, in [0, 1], float64; NaN where one kind of pairs is missing.

    Raises:
        ValueError: If a rate is out of range, or ``point`` is none of the two.

    Example:
        >>> genuine, impostor = torch.tensor([0.9, 0.6, 0.3]), torch.tensor([0.7, 0.5, 0.1, 0.0])
        >>> true_accept_rates(genuine, impostor, [0.25, 0.5])  # thresholds 0.5 and 0.1
        tensor([0.6667, 1.0000], dtype=torch.float64)
    """
    for rate in rates:
        check_number('true_accept_rates', 'rate', rate, 0, 1)
    check_choice('true_accept_rates', 'point', point, ROC_POINTS)
    if not len(genuine) or not len(impostor):
        return torch.full((len(rates),), torch.nan, dtype=torch.float64)
    if point == 'nearest':
        return _at_nearest_corners(genuine, impostor, rates)
    falling = impostor.double().sort(descending=True).values
    accepted = []
    for rate in rates:
        most = max_false_accepts(rate, len(impostor))
        threshold = falling[most] if most < len(impostor) else -torch.inf
        accepted.append((genuine.double() > threshold).double().mean())
    return torch.stack(accepted)


def fold_accuracies(similarity: Tensor, same: Tensor, folds: int = 10, thresholds: str = 'exact') -> Tensor:
    """Return the accuracy on each fold of pairs, with the best threshold of the other folds.

    The protocol of `LFW <https://vis-www.cs.umass.edu/lfw/>`_. Folds are equal parts of the pairs in their order, as
    scikit-learn's ``KFold`` makes them without a shuffle. Of thresholds that are equally good the strictest is taken.

    Args:
        similarity (Tensor): Cosines, shape (P,). A pair is accepted if it is above the threshold.
        same (Tensor): Whether the pair is of one identity, bool (P,).
        folds (int): How many, from 2 to P. Defaults to 10.
        thresholds (str): Among which thresholds: ``'exact'``, all of them, in the middle between neighbouring cosines;
            or ``'grid'``, the official codes': squared distances 2 - 2 cos below 0, 0.01, ..., 3.99.

    Returns:
        Tensor: Shape (folds,), in [0, 1], float64.

    Raises:
        ValueError: If there are fewer pairs than folds, or ``thresholds`` is none of the two.

    Example:
        >>> similarity = torch.tensor([0.9, 0.2, 0.7, 0.8])
        >>> fold_accuracies(similarity, torch.tensor([True, False, True, False]), folds=2)
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    _check_folds('fold_accuracies', folds, len(similarity))
    if thresholds not in ('exact', 'grid'):
        raise ValueError(f"fold_accuracies: expected thresholds to be one of ['exact', 'grid'], got {thresholds!r}.")
    similarity, same = similarity.cpu().double(), same.bool().cpu()
    best = _best_on_grid if thresholds == 'grid' else _best_of_all
    accuracies, start = [], 0
    for fold in range(folds):
        stop = start + len(similarity) // folds + (fold < len(similarity) % folds)
        inside = torch.zeros_like(same)
        inside[start:stop] = True
        accepted = best(similarity[~inside], same[~inside], similarity[inside])
        accuracies.append((accepted == same[inside]).double().mean())
        start = stop
    return torch.stack(accuracies)


def roc_on_grid(similarity: Tensor, same: Tensor, folds: int = 10) -> tuple[Tensor, Tensor]:
    """Return true and false accept rates at squared distances 2 - 2 cos below 0, 0.01, ..., 3.99, averaged over folds.

    The curve of InsightFace's ``calculate_roc`` (recognition/arcface_torch/eval/verification.py); a fold without pairs
    of a kind has the rate 0 there.

    Args:
        similarity (Tensor): Cosines, shape (P,).
        same (Tensor): Whether the pair is of one identity, bool (P,).
        folds (int): As for :func:`fold_accuracies`. Defaults to 10.

    Returns:
        tuple[Tensor, Tensor]: True and false accept rates, each (400,), in [0, 1], float64.

    Raises:
        ValueError: If there are fewer pairs than folds.

    Example:
        >>> true_rates, false_rates = roc_on_grid(torch.tensor([0.75, 0.25]), torch.tensor([True, False]), folds=2)
        >>> true_rates[[50, 51]].tolist(), false_rates[[150, 151]].tolist()  # distances 0.5 and 1.5, one fold each
        ([0.0, 0.5], [0.0, 0.5])
    """
    _check_folds('roc_on_grid', folds, len(similarity))
    grid = torch.arange(_GRID, dtype=torch.float64) * _STEP
    distances, same = 2 - 2 * similarity.cpu().double(), same.bool().cpu()
    true_rates, false_rates = torch.zeros(2, _GRID, dtype=torch.float64)
    for inside, of_one in zip(distances.tensor_split(folds), same.tensor_split(folds), strict=True):
        accepted = (inside.unsqueeze(1) < grid).double()
        true_rates += accepted[of_one].sum(0) / of_one.sum().clamp(min=1)
        false_rates += accepted[~of_one].sum(0) / (~of_one).sum().clamp(min=1)
    return true_rates / folds, false_rates / folds


def _check_folds(caller: str, folds: int, pairs: int) -> None:
    check_number(caller, 'folds', folds, 2, pairs, integer=True, advice=f'There are {pairs} pairs.')


def _at_nearest_corners(genuine: Tensor, impostor: Tensor, rates: Sequence[float]) -> Tensor:
    """Return TAR at the ROC corner closest to each false accept rate."""
    values, own = torch.cat([genuine, impostor]).double().unique(return_inverse=True)
    of_genuine = torch.bincount(own[: len(genuine)], minlength=len(values))
    of_impostor = torch.bincount(own[len(genuine) :], minlength=len(values))
    accepted, falsely = (counts.flip(0).cumsum(0) for counts in (of_genuine, of_impostor))  # by thresholds that fall
    # Scikit-learn's roc_curve leaves out points between two on a line through neighbours; both ends stay, and (0, 0).
    corners = torch.ones_like(accepted, dtype=torch.bool)
    corners[1:-1] = (accepted.diff(n=2) != 0) | (falsely.diff(n=2) != 0)
    true_rates, false_rates = (
        torch.cat([counts.new_zeros(1), counts[corners]]).double() / counts[-1] for counts in (accepted, falsely)
    )
    found = []
    for rate in rates:
        distance = (false_rates - rate).abs()
        found.append(true_rates[(distance == distance.min()).nonzero()[-1, 0]])
    return torch.stack(found)


def _best_of_all(similarity: Tensor, same: Tensor, tested: Tensor) -> Tensor:
    """Return whether the tested pairs exceed the best of all thresholds."""
    values, own = similarity.unique(return_inverse=True)
    genuine = torch.bincount(own, weights=same.double(), minlength=len(values))
    impostor = torch.bincount(own, minlength=len(values)) - genuine
    # Right if none, the highest value, the two highest ... are accepted.
    gained = torch.cat([similarity.new_zeros(1), (genuine - impostor).flip(0).cumsum(0)])
    first = int((gained == gained.max()).nonzero()[0])
    falling = torch.cat([similarity.new_tensor([torch.inf]), values.flip(0), similarity.new_tensor([-torch.inf])])
    return tested > (falling[first] + falling[first + 1]) / 2


def _best_on_grid(similarity: Tensor, same: Tensor, tested: Tensor) -> Tensor:
    """Return whether the tested pairs are closer than the best distance of the grid."""
    grid = torch.arange(_GRID, dtype=torch.float64) * _STEP
    from_here_on = torch.searchsorted(grid, 2 - 2 * similarity, right=True)  # accepted by the first threshold above
    gain = torch.bincount(from_here_on, weights=2.0 * same - 1, minlength=_GRID + 1)[:_GRID].cumsum(0)
    first = int((gain == gain.max()).nonzero()[0])
    return 2 - 2 * tested < grid[first]
