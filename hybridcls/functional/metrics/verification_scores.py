"""Verification scores: similarities of pairs of one identity against those of two."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hybridcls.checks import check_number

__all__ = ['fold_accuracies', 'max_false_accepts', 'true_accept_rates']

_STEP = 0.01  # of the grid of thresholds in InsightFace's verification.py, which AdaFace and CVLFace took over
_GRID = 400


def max_false_accepts(rate: float, impostors: int) -> int:
    """Return how many of so many impostor pairs may be accepted at a false accept rate.

    Example:
        >>> max_false_accepts(0.1, 1000), max_false_accepts(0.001, 999)
        (100, 0)
    """
    return int(rate * impostors + 1e-9)  # 0.29 * 100 is less than 29 in binary


def true_accept_rates(genuine: Tensor, impostor: Tensor, rates: Sequence[float]) -> Tensor:
    """TAR at FAR: the largest share of genuine pairs accepted while at most so many impostor pairs are.

    A pair is accepted if its similarity is above a threshold; pairs of equal similarity are accepted together or not at
    all. Curves of scikit-learn, and InsightFace's scores on IJB, which take the point of the curve that is nearest to
    the rate on either side, differ by no more than one step of the curve.

    Args:
        genuine (Tensor): Similarities of pairs of one identity, shape (G,); *higher is more alike*.
        impostor (Tensor): Similarities of pairs of two identities, shape (I,).
        rates (Sequence[float]): False accept rates, each in [0, 1].

    Returns:
        Tensor: One number a rate, in [0, 1], float64; NaN where one kind of pairs is missing.

    Example:
        >>> genuine, impostor = torch.tensor([0.9, 0.6, 0.3]), torch.tensor([0.7, 0.5, 0.1, 0.0])
        >>> true_accept_rates(genuine, impostor, [0.25, 0.5])  # thresholds 0.5 and 0.1
        tensor([0.6667, 1.0000], dtype=torch.float64)
    """
    for rate in rates:
        check_number('true_accept_rates', 'rate', rate, 0, 1)
    if not len(genuine) or not len(impostor):
        return torch.full((len(rates),), torch.nan, dtype=torch.float64)
    falling = impostor.double().sort(descending=True).values
    accepted = []
    for rate in rates:
        most = max_false_accepts(rate, len(impostor))
        threshold = falling[most] if most < len(impostor) else -torch.inf
        accepted.append((genuine.double() > threshold).double().mean())
    return torch.stack(accepted)


def fold_accuracies(similarity: Tensor, same: Tensor, folds: int = 10, thresholds: str = 'exact') -> Tensor:
    """Accuracy on each fold of pairs, with the threshold that is best on the other folds.

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
    check_number(
        'fold_accuracies',
        'folds',
        folds,
        2,
        len(similarity),
        integer=True,
        advice=f'There are {len(similarity)} pairs.',
    )
    if thresholds not in ('exact', 'grid'):
        raise ValueError(f"fold_accuracies: thresholds={thresholds!r} is not one of ['exact', 'grid'].")
    similarity, same = similarity.double().cpu(), same.bool().cpu()
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


def _best_of_all(similarity: Tensor, same: Tensor, tested: Tensor) -> Tensor:
    """Whether the tested pairs are above the best of all thresholds."""
    values, own = similarity.unique(return_inverse=True)
    genuine = torch.bincount(own, weights=same.double(), minlength=len(values))
    impostor = torch.bincount(own, minlength=len(values)) - genuine
    # Right if none, the highest value, the two highest ... are accepted.
    gained = torch.cat([similarity.new_zeros(1), (genuine - impostor).flip(0).cumsum(0)])
    first = int((gained == gained.max()).nonzero()[0])
    falling = torch.cat([similarity.new_tensor([torch.inf]), values.flip(0), similarity.new_tensor([-torch.inf])])
    return tested > (falling[first] + falling[first + 1]) / 2


def _best_on_grid(similarity: Tensor, same: Tensor, tested: Tensor) -> Tensor:
    """Whether the tested pairs are nearer than the best distance of the grid."""
    grid = torch.arange(_GRID, dtype=torch.float64) * _STEP
    from_here_on = torch.searchsorted(grid, 2 - 2 * similarity, right=True)  # accepted by the first threshold above
    gain = torch.bincount(from_here_on, weights=2.0 * same - 1, minlength=_GRID + 1)[:_GRID].cumsum(0)
    first = int((gain == gain.max()).nonzero()[0])
    return 2 - 2 * tested < grid[first]
