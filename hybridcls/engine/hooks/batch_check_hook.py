"""Check the batches of an epoch before the training."""

from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from hybridcls.registry import HOOKS

_BATCHNORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@HOOKS.register_module()
class BatchCheckHook(Hook):
    """Stop a training whose epochs have no batch, or end in a batch that BatchNorm rejects; every run has this hook.

    With ``drop_last=True`` (the shipped configs) a batch that is not full is dropped. If the batches of all processes
    together are larger than the dataset, nothing is left, and mmengine would count empty epochs to the end.

    With ``drop_last=False`` the last batch may hold one image. BatchNorm over vectors or 1 x 1 maps has one value a
    channel then, which torch refuses: at the end of the first epoch. So the first step looks at what its BatchNorm
    layers get. (Not in compiled models.)

    Raises:
        ValueError: Before training, or in its first step: how many images and processes there are, and which batch
            size would work.
    """

    def __init__(self) -> None:
        self._watching: list[Any] = []

    def before_train(self, runner: Runner) -> None:
        """Check the dataloader."""
        loader = runner.train_dataloader
        if not hasattr(loader, '__len__'):
            return
        check_batches(loader)
        if not runner.cfg.get('compile') and _last_batch_has_one(loader):
            kinds = _BATCHNORMS if get_world_size() > 1 else (*_BATCHNORMS, nn.SyncBatchNorm)
            self._watching = [
                module.register_forward_pre_hook(_refuse_one_value_of(name, loader))
                for name, module in runner.model.named_modules()
                if isinstance(module, kinds)
            ]

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """End the check after the first iteration."""
        while self._watching:
            self._watching.pop().remove()


def _last_batch_has_one(loader: Any) -> bool:
    """Return whether some process ends its epoch with a batch of one image."""
    if getattr(loader, 'batch_size', None) is None or loader.drop_last or isinstance(loader.sampler, InfiniteSampler):
        return False  # one of another kind, such as that of mmpretrain's vis_scheduler.py, has no batch size
    sampler = loader.sampler
    return hasattr(sampler, '__len__') and (len(sampler) - 1) % loader.batch_size == 0


def _refuse_one_value_of(name: str, loader: Any) -> Any:

    def look(module: nn.Module, inputs: tuple) -> None:
        values = inputs[0]
        rows_are_images = values.shape[0] == loader.batch_size  # more are views, fewer a part of the batch
        if module.training and rows_are_images and values.numel() == values.shape[0] * values.shape[1]:
            images = len(loader.sampler)
            raise ValueError(
                f'train_dataloader: expected two images or more in each batch, got {images} images a process in '
                f'batches of {loader.batch_size}, so the last batch is a single image, for which BatchNorm ({name}) '
                'cannot compute statistics. Set train_dataloader.drop_last=True, or another batch_size.'
            )

    return look


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
        else 'The dataset is empty.'
    )
    raise ValueError(
        f'train_dataloader: {images} images on {processes} {"processes" if processes > 1 else "process"} do not fill '
        f'a batch of {loader.batch_size}, and drop_last=True drops incomplete batches, so there is nothing to train '
        f'on. {advice}'
    )
