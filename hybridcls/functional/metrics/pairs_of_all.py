"""Exact true accept rates over all pairs of a set, without a list of the pairs."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from hybridcls.checks import check_number

from ..l2_normalize import l2_normalize
from ..product_precision import multiply
from .verification_scores import max_false_accepts

__all__ = ['PairRates', 'accept_rates_of_all_pairs']

_ROWS = 1024  # of a block of similarities, 4 MiB
_BINS = 2**16


class PairRates(NamedTuple):
    """Rates from :func:`accept_rates_of_all_pairs`.

    Args:
        rates (Tensor): One true accept rate for each false accept rate, in [0, 1], float64; NaN where one kind of
            pairs is missing.
        genuine (int): How many pairs are of one label.
        impostor (int): How many are of two.
    """

    rates: Tensor
    genuine: int
    impostor: int


def accept_rates_of_all_pairs(
    embeddings: Tensor, labels: Tensor, rates: Sequence[float], device: Optional[torch.device] = None
) -> PairRates:
    """Return TAR at FAR of all N (N - 1) / 2 pairs of a set by cosine similarity, as :func:`true_accept_rates`.

    The pairs are looked at twice, in blocks, and never held: the first time the similarities are counted by the upper
    half of their bits, which says in which bin the threshold of each rate lies, the second time those of these bins
    by the lower half, which says where in it. So the result is exact, in the float32 cosines, and the memory does not
    grow with the number of pairs. All that is symmetric is computed once.

    A row that is not finite is wrong in all of its pairs: genuine ones are rejected at any threshold, and impostors
    accepted.

    Args:
        embeddings (Tensor): Shape (N, D), any length and floating dtype; computed in float32.
        labels (Tensor): int64 (N,).
        rates (Sequence[float]): False accept rates, each in [0, 1].
        device (torch.device, optional): Where to compute; the embeddings may lie elsewhere. Defaults to theirs.

    Example:
        >>> rows = torch.tensor([[1., 0.], [1., 0.2], [0., 1.], [0.2, 1.]])
        >>> accept_rates_of_all_pairs(rows, torch.tensor([5, 5, 7, 7]), [0.]).rates
        tensor([1.], dtype=torch.float64)
    """
    for rate in rates:
        check_number('accept_rates_of_all_pairs', 'rate', rate, 0, 1)
    finite = embeddings.isfinite().all(1)
    genuine, impostor = _count_pairs(labels)
    if not genuine or not impostor:
        return PairRates(torch.full((len(rates),), torch.nan, dtype=torch.float64), genuine, impostor)
    seen_impostor = _count_pairs(labels[finite])[1]
    device = embeddings.device if device is None else torch.device(device)
    rows = l2_normalize(embeddings[finite].to(device).float())[0]
    labels = labels[finite].to(device)

    # Where, among the similarities in falling order, stands the first impostor that must not be accepted?
    allowed = [max_false_accepts(rate, impostor) - (impostor - seen_impostor) for rate in rates]
    upper = torch.zeros(2, _BINS, dtype=torch.int64, device=device)
    for keys, same in _pairs(rows, labels):
        upper += _histogram(_upper_half(keys), same)
    upper = upper.cpu()
    bins = [_bin_of(upper[0], most) if 0 <= most < seen_impostor else None for most in allowed]
    lower = {number: torch.zeros(2, _BINS, dtype=torch.int64, device=device) for number in {*bins} - {None}}
    if lower:
        for keys, same in _pairs(rows, labels):
            for number, counts in lower.items():
                inside = _upper_half(keys) == number
                counts += _histogram(keys[inside] & (_BINS - 1), same[inside])
    found = []
    for most, number in zip(allowed, bins, strict=True):
        if number is None:
            found.append(genuine if most >= seen_impostor else 0)
            continue
        within = lower[number].cpu()
        above = upper[:, number + 1 :].sum(1)
        threshold = _bin_of(within[0], most - int(above[0]))
        found.append(int(above[1]) + int(within[1, threshold + 1 :].sum()))
    return PairRates(torch.tensor(found, dtype=torch.float64) / genuine, genuine, impostor)


def _count_pairs(labels: Tensor) -> tuple[int, int]:
    """Return the number of pairs with one label, and with two."""
    counts = labels.unique(return_counts=True)[1]
    genuine = int((counts * (counts - 1)).sum()) // 2
    return genuine, len(labels) * (len(labels) - 1) // 2 - genuine


def _pairs(rows: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, block by block, int32 numbers that increase with a pair's similarity, and which pairs are genuine."""
    for begin in range(0, len(rows), _ROWS):
        block, own = rows[begin : begin + _ROWS], labels[begin : begin + _ROWS]
        for start in range(begin, len(rows), _ROWS):
            similarity = multiply(block, rows[start : start + _ROWS].T, 'float32')
            same = own.unsqueeze(1) == labels[start : start + _ROWS]
            if start == begin:
                upper = torch.ones_like(same).triu_(1)
                similarity, same = similarity[upper], same[upper]
            bits = similarity.flatten().view(torch.int32)
            # Floating numbers are ordered as their bits are, negative ones the other way round.
            yield bits.bitwise_xor_((bits >> 31) & (2**31 - 1)), same.flatten()


def _upper_half(keys: Tensor) -> Tensor:
    return (keys >> 16) + _BINS // 2


def _histogram(bins: Tensor, same: Tensor) -> Tensor:
    """Count impostor and genuine pairs: int64 (2, _BINS)."""
    return torch.bincount(bins + _BINS * same, minlength=2 * _BINS).view(2, _BINS)


def _bin_of(counts: Tensor, place: int) -> int:
    """Return the bin that contains the pair of this rank, counted from 0 and from the highest bin down."""
    return len(counts) - 1 - int(torch.searchsorted(counts.flip(0).cumsum(0), place, right=True))
