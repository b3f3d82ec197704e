"""Choose the number of tokens to merge for a target speed on this machine."""

from dataclasses import dataclass
from typing import Any, Optional

import torch
from torch import Tensor, nn

from hybridcls.checks import check_number, counted
from hybridcls.models.adapters import add_token_merging

from .timing import Timing, interleaved_timings

__all__ = ['MergingChoice', 'choose_merging']


@dataclass
class MergingChoice:
    """The chosen number of merged tokens, and its speed.

    Args:
        r (int): Tokens to merge in each block.
        seconds (float): One forward pass with that r, median.
        whole_seconds (float): One without merging, in the same rounds, median.
        speedup (float): Their ratio, the median over the rounds.
        inflection (float): How r changes with the depth, as in the call.
    """

    r: int
    seconds: float
    whole_seconds: float
    speedup: float
    inflection: float = 0.0

    @property
    def ratio(self) -> dict[str, Any]:
        """The value of ``token_merging_ratio``."""
        return dict(r=self.r, inflection=self.inflection) if self.inflection else dict(r=self.r)


def choose_merging(
    model: nn.Module,
    images: Tensor,
    speedup: Optional[float] = None,
    target_seconds: Optional[float] = None,
    rounds: int = 9,
    inflection: float = 0.0,
) -> MergingChoice:
    """Find the smallest number of merged tokens per block that reaches a target speed on this machine.

    Each candidate is timed against the model without merging, interleaved, in eval mode without gradients; a binary
    search tries about log2(patches) candidates. The model is restored afterwards.

    Args:
        model (nn.Module): Called with ``images``; contains a plain transformer of timm.
        images (Tensor): A batch of the size in use: the best r depends on it.
        speedup (float, optional): Target of the time without merging over the time with it, >= 1.
        target_seconds (float, optional): Or the target time of the batch, > 0.
        rounds (int): Timings of each candidate. Defaults to 9.
        inflection (float): In [-1, 1]: -1 lets r fall from 2 r to 0 through the depth, see :class:`MergingSchedule`.
            Defaults to 0: the same in each block.

    Returns:
        MergingChoice: r is 0 if the model is fast enough already.

    Raises:
        ValueError: If not exactly one target is given, or it is out of reach.
    """
    if (speedup is None) == (target_seconds is None):
        raise ValueError(
            f'choose_merging: expected either speedup or target_seconds, got {speedup} and {target_seconds}.'
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
                    'choose_merging: expected to reach '
                    f'{f"{speedup:.2f} times" if speedup is not None else f"{(target_seconds or 0) * 1e3:.1f} ms"}, '
                    f'got {timed[high].seconds * 1e3:.1f} ms for {counted(len(images), "image")}, '
                    f'{timed[high].speedup:.2f} times '
                    f'as fast, by merging half of the tokens in every block (r={high}). Lower the target, or take a '
                    'smaller model or larger batches (in small ones the matching of tokens weighs more).'
                )
            while high - low > 1:
                middle = (low + high) // 2
                timed[middle] = _time(model, images, middle, rounds, inflection)
                low, high = (low, middle) if fast_enough(timed[middle]) else (middle, high)
            return timed[high]
    finally:
        model.train(training)


def _most(model: nn.Module) -> int:
    """Return the largest useful r: half of the patches of the largest transformer."""
    merging = add_token_merging(model, 0)
    merging.undo()
    transformers: list[Any] = [model.get_submodule(name) for name in merging.names]
    return max(1, *(transformer.patch_embed.num_patches // 2 for transformer in transformers))


def _time(model: Any, images: Tensor, r: int, rounds: int, inflection: float) -> MergingChoice:
    def merged() -> None:
        # Microseconds: classes are swapped, nothing is copied.
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
