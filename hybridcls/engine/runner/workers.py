"""End the persistent workers of a Runner's dataloaders."""

from typing import Any

from hybridcls.compat.mmengine import built_loop
from hybridcls.compat.torch import drop_iterator

__all__ = ['end_workers']


def end_workers(runner: Any) -> None:
    """End the workers now; after garbage collection of their queues, each would take five seconds."""
    for loop in filter(None, (built_loop(runner, kind) for kind in ('train', 'val', 'test'))):
        drop_iterator(loop.dataloader)
        if hasattr(loop, 'dataloader_iterator'):  # by iterations
            loop.dataloader_iterator = None
