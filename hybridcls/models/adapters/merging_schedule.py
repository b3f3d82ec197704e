"""The number of tokens that each block merges."""

from collections.abc import Sequence
from typing import Any, Union

from hybridcls.checks import check_known_keys, check_number

__all__ = ['MergingSchedule', 'MergingRatio']

MergingRatio = Union[float, Sequence[float], dict]

_WAYS = (
    '0.1 is the share of its tokens that each block merges, [0.2, 0.1, ...] one share a block, dict(r=13) the '
    'number of tokens, dict(r=13, inflection=-1) more of them in the first blocks than in the last.'
)


class MergingSchedule:
    """The number of tokens that each block of a transformer merges.

    Args:
        ratio (float | Sequence[float] | dict): A share in [0, 0.5] of the patch tokens that come into a block, the same
            for all blocks or one each; or ``dict(r=...)``: a number of tokens, or one for each block, where with
            ``inflection`` in [-1, 1] the number rises (1: from 0 to 2 r) or falls (-1: from 2 r to 0) evenly through
            the depth. No block merges more than half of the tokens that it gets, which is all that the algorithm can.
        depth (int): Number of blocks.
        name (str): The key that the user typed, for error messages.

    Raises:
        TypeError: If it has none of these forms.
        ValueError: If a number is out of range, or a list has another length than the transformer.

    Example:
        >>> schedule = MergingSchedule(dict(r=8, inflection=-1), depth=3)
        >>> [schedule.tokens(block, 196) for block in range(3)]
        [16, 8, 0]
        >>> MergingSchedule(0.5, depth=3).tokens(0, 5)
        2
    """

    def __init__(self, ratio: MergingRatio, depth: int, name: str = 'token_merging_ratio') -> None:
        self.ratio = ratio
        self.shares: list[float] = [0.0] * depth
        self.numbers: list[int] = [0] * depth
        if isinstance(ratio, dict):
            self.numbers = _numbers(ratio, depth, name)
        elif isinstance(ratio, Sequence) and not isinstance(ratio, str):
            self.shares = list(ratio)
            _check_length(name, self.shares, depth)
            for block, share in enumerate(self.shares):
                check_number('MergingSchedule', f'{name}[{block}]', share, 0, 0.5, advice=_WAYS)
        else:
            check_number('MergingSchedule', name, ratio, 0, 0.5, advice=_WAYS)
            self.shares = [float(ratio)] * depth

    def stop_after(self, block: int) -> None:
        """Merge nothing after a number of blocks."""
        for values in (self.shares, self.numbers):
            values[block:] = [0] * (len(values) - block)

    @property
    def merges(self) -> bool:
        """Whether any block merges tokens."""
        return any(self.shares) or any(self.numbers)

    def tokens(self, block: int, length: int) -> int:
        """Return how many of ``length`` patch tokens a block merges."""
        return min(self.numbers[block] + int(self.shares[block] * length), length // 2)

    def __repr__(self) -> str:
        return f'{self.ratio}'


def _numbers(ratio: dict, depth: int, name: str) -> list[int]:
    check_known_keys(f'MergingSchedule: {name}', ratio, ('r', 'inflection'))
    if 'r' not in ratio:
        raise ValueError(f"MergingSchedule: {name}={dict(ratio)} lacks the key 'r'. {_WAYS}")
    r, inflection = ratio['r'], ratio.get('inflection', 0)
    check_number('MergingSchedule', f'{name}.inflection', inflection, -1, 1)
    each: list[Any] = list(r) if isinstance(r, Sequence) and not isinstance(r, str) else [r] * depth
    _check_length(f'{name}.r', each, depth)
    for number in each:
        check_number('MergingSchedule', f'{name}.r', number, 0, integer=True, advice=_WAYS)
    if not inflection:
        return each
    if isinstance(r, Sequence):
        raise ValueError(
            f'MergingSchedule: {name}={dict(ratio)} says the number of every block, so there is nothing '
            'left for inflection. Drop it, or give one number.'
        )
    first = int(r * (1 - inflection))
    step = 2 * (r - first) / max(depth - 1, 1)
    return [int(first + step * block) for block in range(depth)]


def _check_length(name: str, values: Sequence, depth: int) -> None:
    if len(values) != depth:
        raise ValueError(
            f'MergingSchedule: {name} has {len(values)} values, and the transformer has {depth} blocks. '
            'Give one a block, or one for all.'
        )
