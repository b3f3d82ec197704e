"""Gradient accumulation state of mmengine's optimizer wrappers. Run with onedl-mmengine 0.10.12."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mmengine.optim import OptimWrapper

__all__ = [
    'AccumulationCounts', 'accumulation_counts', 'clip_and_log_gradient', 'count_micro_batch',
    'set_accumulation_counts',
]  # fmt: skip


class AccumulationCounts(NamedTuple):
    """The gradient accumulation state of an optimizer wrapper.

    Args:
        done (int): Micro-batches so far, in all updates.
        per_update (int): Micro-batches of an update.
        total (int): Micro-batches of the training; -1 where it is not known.
    """

    done: int
    per_update: int
    total: int

    @property
    def is_between_updates(self) -> bool:
        """Whether no update is partially accumulated."""
        return self.done % self.per_update == 0


def accumulation_counts(wrapper: 'OptimWrapper') -> AccumulationCounts:
    """Return the counts of an optimizer wrapper."""
    return AccumulationCounts(wrapper._inner_count, wrapper._accumulative_counts, wrapper._max_counts)


def set_accumulation_counts(wrapper: 'OptimWrapper', done: int, total: int) -> None:
    """Set the counts as ``initialize_count_status`` does, without its warnings about lost gradients."""
    wrapper._inner_count, wrapper._max_counts = done, total
    wrapper._remainder_counts = total % wrapper._accumulative_counts


def count_micro_batch(wrapper: 'OptimWrapper') -> None:
    """Count a backward pass, as every ``backward`` of an optimizer wrapper must."""
    wrapper._inner_count += 1


def clip_and_log_gradient(wrapper: 'OptimWrapper') -> None:
    """Clip the gradient by ``clip_grad`` of an optimizer wrapper, and log its norm before clipping."""
    wrapper._clip_grad()
