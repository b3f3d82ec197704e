"""How many tokens to merge for a wanted speed, on the machine that asks."""

from dataclasses import dataclass
from typing import Any, Optional

import torch
from torch import Tensor, nn

from hybridcls.checks import check_number
from hybridcls.models.adapters import add_token_merging

from .timing import Timing, interleaved_timings

__all__ = ['MergingChoice', 'choose_merging']


@dataclass
class MergingChoice:
    """What was found.

    Args:
        r (int): Tokens to merge in each block.
        seconds (float): One forward pass with that r, median.
        whole_seconds (float): One without merging, in the same rounds, median.
        speedup (float): Their ratio, the median over the rounds.
        inflection (float): Whether r rises or falls through the depth, as it was asked for.
    """

    r: int
    seconds: float
    whole_seconds: float
    speedup: float
    inflection: float = 0.0

    @property
    def ratio(self) -> dict[str, Any]:
        """As ``token_merging_ratio`` wants it."""
        return dict(r=self.r, inflection=self.inflection) if self.inflection else dict(r=self.r)


def choose_merging(
    model: nn.Module,
    images: Tensor,
    speedup: Optional[float] = None,
    target_seconds: Optional[float] = None,
    rounds: int = 9,
    inflection: float = 0.0,
) -> MergingChoice:
    """Find the smallest number of merged tokens a block that makes a model as fast as wanted, here and now.

    Each candidate is timed against the model without merging, interleaved, in eval mode without gradients; of the
    candidates about log2(patches) are tried. The model is left as it was.

    Args:
        model (nn.Module): Called with ``images``; has a plain transformer of timm somewhere in it.
        images (Tensor): A batch as it will come: the best r depends on its size.
        speedup (float, optional): Wanted time without merging over time with it, >= 1.
        target_seconds (float, optional): Or the wanted time of the batch, > 0.
        rounds (int): Timings of each candidate. Defaults to 9.
        inflection (float): In [-1, 1]: -1 lets r fall from 2 r to 0 through the depth, see :class:`MergingSchedule`.
            Defaults to 0: the same in each block.

    Returns:
        MergingChoice: r is 0 if the model is fast enough already.

    Raises:
        ValueError: If not exactly one of the wishes is given, or merging as much as can be is not enough.
    """
    if (speedup is None) == (target_seconds is None):
        raise ValueError(
            f'choose_merging: give speedup or target_seconds, one of them; they are {speedup} and {target_seconds}.'
        )
    if speedup is not None:
        check_number('choose_merging', 'speedup', speedup, 1)
    else:
        check_number('choose_merging', 'target_seconds', target_seconds, 0, low_open=True)
    check_number('choose_merging', 'inflection', inflection, -1, 1)

    def fast_enough(choice: MergingChoice) -> bool:
        return choice.speedup >= speedup if speedup is not None else choice.seconds <= (target_seconds or 0)

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            timed = {0: _time(model, images, 0, rounds, inflection)}
            if fast_enough(timed[0]):
                return timed[0]
            low, high = 0, _most(model)
            timed[high] = _time(model, images, high, rounds, inflection)
            if not fast_enough(timed[high]):
                raise ValueError(
                    f'choose_merging: merging half of the tokens in every block (r={high}) takes '
                    f'{timed[high].seconds * 1e3:.1f} ms for {len(images)} images, {timed[high].speedup:.2f} times as '
                    'fast as none at all, and '
                    f'{f"{speedup:.2f} times" if speedup is not None else f"{(target_seconds or 0) * 1e3:.1f} ms"} was '
                    'wanted. Wish for less, or take a smaller model or larger batches (in small ones finding alike '
                    'tokens weighs more).'
                )
            while high - low > 1:
                middle = (low + high) // 2
                timed[middle] = _time(model, images, middle, rounds, inflection)
                low, high = (low, middle) if fast_enough(timed[middle]) else (middle, high)
            return timed[high]
    finally:
        model.train(training)


def _most(model: nn.Module) -> int:
    """The r beyond which nothing changes: half of the patches of the largest transformer."""
    merging = add_token_merging(model, 0)
    merging.undo()
    transformers: list[Any] = [model.get_submodule(name) for name in merging.names]
    return max(1, *(transformer.patch_embed.num_patches // 2 for transformer in transformers))


def _time(model: Any, images: Tensor, r: int, rounds: int, inflection: float) -> MergingChoice:
    def merged() -> None:
        # Microseconds: classes are exchanged, nothing is copied.
        merging = add_token_merging(model, dict(r=r, inflection=inflection))
        try:
            model(images)
        finally:
            merging.undo()

    timings: dict[str, Timing] = interleaved_timings(
        dict(merged=merged, whole=lambda: model(images)), rounds=rounds, warmup=1
    )
    # `whole` is measured relative to `merged`, round by round: its ratio is the speed-up.
    return MergingChoice(r, timings['merged'].seconds, timings['whole'].seconds, timings['whole'].ratio, inflection)
