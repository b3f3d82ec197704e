"""Train a new head first, so that its first gradients do not distort the backbone's features."""

from collections.abc import Sequence
from typing import Any, Optional, Union

import torch
from mmengine.dist import broadcast, broadcast_object_list, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from hybridcls.checks import check_number, counted, did_you_mean
from hybridcls.compat.mmengine import bare_model, built_loop, resumes, rewrap
from hybridcls.compat.torch import drop_iterator
from hybridcls.distributed.layouts import is_row_shard
from hybridcls.models.heads.head import is_multi_label
from hybridcls.registry import DATASETS, HOOKS

from ..runner.numbered_batches import batches_of_a_pass
from .embedding_bank_hook import embed_dataset, renumber_labels

ALL = 'all'


@HOOKS.register_module()
class HeadFirstHook(Hook):
    """Fit the head to the features of the training images, and freeze the parts before it for some epochs.

    A new head on a trained backbone has random weights, and the gradients that it sends back at first distort features
    that were good: `Kumar et al. <https://arxiv.org/abs/2202.10054>`_ (linear probing, then fine-tuning). Two remedies:

    - ``dataloader`` and ``fit``: before the first update the training images are embedded once, without augmentation
      (one forward pass over them), and the head is fitted to the embeddings by its method ``fit``: a logistic
      regression in :class:`~hybridcls.models.heads.LinearHead`, prototypes in the margin heads. Then it is validated,
      and saved as the best checkpoint so far: the final answer is no worse on the validation than the frozen backbone.
    - ``frozen_epochs``: the parts get no gradient and stay in eval mode (statistics of BatchNorm, dropout, stochastic
      depth) until so many epochs are done; the rest trains.

    A run that resumes, or whose ``load_from`` holds a head of this shape, is not fitted. Whether the parts are frozen
    follows from the iteration, so that a run that stops inside of the frozen epochs ends in the same bits. Frozen
    parameters have no gradient and no state in the optimizer: SAM, Lookahead, EMA and weight decay leave them alone. In
    several processes ``DistributedDataParallel`` is built again when they are frozen or released, so that it waits for
    no gradient that does not come.

    Args:
        dataloader (dict, optional): Config of a dataloader of the training images, without augmentation. Needed for
            ``fit``. Defaults to None.
        fit (bool): Fit the head. Defaults to True.
        frozen_epochs (int | str): Epochs, or ``'all'``. Defaults to 0.
        parts (Sequence[str]): What is frozen, by the path of the submodule; one that the model does not have (a neck
            that is None) is skipped. Defaults to ``('backbone', 'neck')``.
        max_images (int): Of more images so many, evenly spaced, are embedded. Defaults to 50,000.

    Raises:
        ValueError: Before training: if nothing would be left to train, or a part is unknown; if ``fit`` has no
            dataloader, or the model is sharded.
    """

    priority = 'LOWEST'  # after the hooks that load, and those that prepare validation and checkpoints

    def __init__(
        self,
        dataloader: Optional[dict] = None,
        fit: bool = True,
        frozen_epochs: Union[int, str] = 0,
        parts: Sequence[str] = ('backbone', 'neck'),
        max_images: int = 50000,
    ) -> None:
        if frozen_epochs != ALL:
            check_number('HeadFirstHook', 'frozen_epochs', frozen_epochs, 0, integer=True, advice="Or 'all'.")
        check_number('HeadFirstHook', 'max_images', max_images, 1, integer=True)
        if fit and dataloader is None:
            raise ValueError(
                'HeadFirstHook: fit=True needs images to fit the head to. Set dataloader to the training images with '
                'the validation pipeline, or fit=False.'
            )
        self.dataloader: Any = dataloader
        self.fit, self.frozen_epochs = fit, frozen_epochs
        self.parts, self.max_images = tuple(parts), max_images
        self._has_head = False
        self._frozen: list[nn.Parameter] = []
        self._modules: list[nn.Module] = []

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note whether ``load_from`` contains a head of the same shape, which is then not fitted."""
        own, given = bare_model(runner.model).state_dict(), checkpoint.get('state_dict') or {}
        heads = [name for name in own if name.startswith('head.')]
        parts = checkpoint.get('transferred_parts')  # of TransferHook, which puts initial weights for the others
        self._has_head = (parts is None or 'head' in parts) and all(
            name in given and given[name].shape == own[name].shape for name in heads
        )

    def before_train(self, runner: Runner) -> None:
        """Fit and validate the head on the first start; freeze the other parts if their frozen epochs are not over."""
        if self.fit and runner.iter == 0 and not resumes(runner) and not self._has_head:
            self._fit(runner)
        if self._is_frozen_at(runner):
            self._freeze(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keep frozen parts in eval mode, or unfreeze them when their epochs are over."""
        if self._frozen and not self._is_frozen_at(runner):
            self._release(runner)
        for module in self._modules:
            if module.training:  # the loop has called model.train()
                module.eval()

    def _is_frozen_at(self, runner: Runner) -> bool:
        if self.frozen_epochs == ALL:
            return True
        return bool(self.frozen_epochs) and runner.iter < self.frozen_epochs * batches_of_a_pass(
            runner.train_dataloader
        )

    def _freeze(self, runner: Runner) -> None:
        model = bare_model(runner.model)
        self._modules = self._modules_of(model)
        self._frozen = [param for part in self._modules for param in part.parameters() if param.requires_grad]
        frozen = {id(param) for param in self._frozen}
        if not any(param.requires_grad and id(param) not in frozen for param in model.parameters()):
            raise ValueError(
                f'HeadFirstHook: expected something to train beside {", ".join(self.parts)}, got a model in which '
                'nothing else needs a gradient. Set frozen_epochs=0, or other parts.'
            )
        for param in self._frozen:
            param.requires_grad_(False)
        rewrap(runner, 'HeadFirstHook')
        how_long = 'all epochs' if self.frozen_epochs == ALL else f'{self.frozen_epochs} epoch(s)'
        runner.logger.info(f'HeadFirstHook: frozen for {how_long}: {", ".join(self._names(model))}.')

    def _release(self, runner: Runner) -> None:
        for param in self._frozen:
            param.requires_grad_(True)
        self._frozen, self._modules = [], []
        bare_model(runner.model).train()  # the whole: which layers stay in eval mode is known further out (norm_eval)
        rewrap(runner, 'HeadFirstHook')

    def _names(self, model: nn.Module) -> list[str]:
        modules = dict(model.named_modules())
        for name in self.parts:
            if name not in modules and getattr(model, name, self) is self:
                raise ValueError(
                    f'HeadFirstHook: parts names {name!r}, which the model does not have.'
                    f'{did_you_mean(name, [key for key in modules if key])}'
                )
        return [name for name in self.parts if name in modules]

    def _modules_of(self, model: nn.Module) -> list[nn.Module]:
        modules = dict(model.named_modules())
        return [modules[name] for name in self._names(model)]

    def _fit(self, runner: Runner) -> None:
        head: Any = getattr(bare_model(runner.model), 'head', None)
        if not callable(getattr(head, 'fit', None)):
            runner.logger.info(
                f'HeadFirstHook: {type(head).__name__} has no method fit, so its weights start at random.'
            )
            return
        loader = runner.build_dataloader(self._settings(runner))
        runner.call_hook('after_build_dataloader', dataloader=loader)
        embeddings, labels = embed_dataset(runner.model, loader, 'embedding the training images')
        drop_iterator(loader)
        is_sharded = any(is_row_shard(param) for param in head.parameters())
        if is_sharded:  # each process sets its rows
            found: list[Any] = [embeddings, labels]
            broadcast_object_list(found)
            embeddings, labels = found
        if is_main_process() or is_sharded:
            how = head.fit(embeddings, _targets(head, labels))
            runner.logger.info(f'HeadFirstHook: the head is fitted to {counted(len(labels), "image")}: {how}.')
        for tensor in () if is_sharded else (*head.parameters(), *head.buffers()):
            broadcast(tensor.data)
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):  # its average begins with the fitted head
                _copy_weights(bare_model(runner.model), hook.ema_model.module)
        if built_loop(runner, 'val') is not None:
            runner.val_loop.run()

    def _settings(self, runner: Runner) -> dict:
        """Return the config of the dataloader, with a dataset of at most ``max_images``."""
        with DATASETS.switch_scope_and_registry('hybridcls') as registry:
            dataset = registry.build(self.dataloader['dataset'])
        renumber_labels(runner, dataset, 'images to fit the head to')
        if len(dataset) > self.max_images and hasattr(dataset, 'get_subset_'):
            dataset.get_subset_([number * len(dataset) // self.max_images for number in range(self.max_images)])
        return {**self.dataloader, 'dataset': dataset}


def _targets(head: Any, labels: list[list[int]]) -> Tensor:
    """Return class numbers, int64 ``(N,)``, or for a multi-label head 0 and 1, float32 ``(N, C)``."""
    if not is_multi_label(head):
        return torch.tensor(labels).flatten()
    targets = torch.zeros(len(labels), head.num_classes)
    for row, own in enumerate(labels):
        targets[row, own] = 1
    return targets


def _copy_weights(source: nn.Module, target: nn.Module) -> None:
    for own, other in zip((*source.parameters(), *source.buffers()), (*target.parameters(), *target.buffers()),
                          strict=True):  # fmt: skip
        other.data.copy_(own.data)
