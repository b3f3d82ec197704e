"""End the long-lived workers of dataloaders."""

from typing import Any

__all__ = ['end_workers', 'end_workers_of']


def end_workers(runner: Any) -> None:
    """End the long-lived workers of a Runner's dataloaders.

    Left to the garbage collector, which may take the queues first, each of them is waited for five seconds.
    """
    from mmengine.runner.base_loop import BaseLoop

    for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
        if isinstance(loop, BaseLoop):
            end_workers_of(loop.dataloader)
            if hasattr(loop, 'dataloader_iterator'):  # by iterations
                loop.dataloader_iterator = None


def end_workers_of(dataloader: Any) -> None:
    """The same for one dataloader; anything else, such as the config of one that was never built, is left alone."""
    if hasattr(dataloader, '_iterator'):
        dataloader._iterator = None
