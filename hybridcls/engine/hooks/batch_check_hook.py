"""Say that an epoch has no batch before a training of nothing begins."""

from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from hybridcls.registry import HOOKS


@HOOKS.register_module()
class BatchCheckHook(Hook):
    """Stop a training whose epochs have no batch; every run has this hook.

    With ``drop_last=True`` (the shipped configs) a batch that is not full is dropped. If the batches of all processes
    together are larger than the data set, nothing is left, and mmengine would count empty epochs to the end.

    Raises:
        ValueError: Before training: how many images and processes there are, and which batch size would work.
    """

    def before_train(self, runner: Runner) -> None:
        """Look at the dataloader."""
        loader = runner.train_dataloader
        if hasattr(loader, '__len__'):
            check_batches(loader)


def check_batches(loader: Any) -> None:
    """Raise a ValueError, as described above, if there is no batch in ``loader``."""
    if len(loader) > 0:
        return
    images, processes = len(loader.dataset), get_world_size()
    share = images // processes
    advice = (
        f'Set train_dataloader.batch_size to at most {share}, or train_dataloader.drop_last=False.'
        if share
        else f'Use at most {images} processes.'
        if images
        else 'The data set is empty.'
    )
    raise ValueError(
        f'train_dataloader: {images} images on {processes} '
        f'{"processes" if processes > 1 else "process"} do not fill one batch of '
        f'{loader.batch_size}, and drop_last=True drops it, so there is nothing to train on. {advice}'
    )
