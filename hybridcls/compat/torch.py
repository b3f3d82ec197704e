"""What torch offers no public way for. Run with torch 2.6 to 2.14."""

from typing import Any

from torch.utils.data import DataLoader

__all__ = ['set_batch_sampler']


def set_batch_sampler(loader: DataLoader, batch_sampler: Any) -> None:
    """Exchange the batch sampler of a dataloader that has not been iterated over yet.

    torch refuses the assignment once the dataloader is built, since an iterator that exists would not notice.

    Raises:
        RuntimeError: If the dataloader keeps an iterator (``persistent_workers``) already.
    """
    if loader._iterator is not None:
        raise RuntimeError('set_batch_sampler: expected a dataloader without an iterator. Exchange it before the run.')
    vars(loader)['batch_sampler'] = batch_sampler
