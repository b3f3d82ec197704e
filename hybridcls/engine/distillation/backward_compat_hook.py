"""Train a model whose embeddings can search the index of an old one."""

import os
from collections.abc import Sequence
from typing import Any, Optional

import torch
from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from hybridcls.checks import check_choice, check_file, listed
from hybridcls.compat.mmengine import bare_model, built_loop
from hybridcls.compat.torch import drop_iterator
from hybridcls.datasets import class_names_of
from hybridcls.models.classifiers import BackwardCompat, HybridClassifier, Teacher
from hybridcls.models.classifiers.backward_compat import class_means
from hybridcls.models.heads.head import is_multi_label
from hybridcls.models.losses import BackwardCompatLoss
from hybridcls.registry import HOOKS, MODELS
from hybridcls.replay.random_state import isolated_randomness
from hybridcls.structures import ClassNames, record_compatible

from ..checkpoints.calibration_file import digest_of_state
from ..checkpoints.find_checkpoint import find_checkpoint
from ..hooks.embedding_bank_hook import embed_dataset, renumber_labels
from .teacher_model import build_teacher, model_in_checkpoint, teacher_image_size


@HOOKS.register_module()
class BackwardCompatHook(Hook):
    """Keep the embeddings of a training compatible with those of an old model, by :class:`BackwardCompatLoss`.

    Backward-compatible training of `Shen et al. <https://arxiv.org/abs/2003.11942>`_: the old model's classifier, which
    is frozen, also has to classify the new embeddings. The checkpoints record which weights they are compatible with,
    so that ``hybridcls search OLD_INDEX IMAGES --checkpoint NEW`` compares their queries with the old index.

    The old model is in no checkpoint, no optimizer and no bucket of DDP; validation is done without it; the random
    numbers of the training are those it would have alone. The classifier is one of these, called K classes wide:

    - ``'head'``: the head of the old model, as it is (of margin heads: cosines times scale, without the margin). Images
      of classes that it does not have add nothing to the influence loss.
    - ``'prototypes'``: cosines with the class means of the old model's embeddings of the training images, which are
      computed before the first update (one forward pass of the old model).
    - ``'auto'``: the head, if it has every class of the training, by name; else prototypes.

    The new embeddings must be at least as wide as the old ones; of wider ones the first numbers are compared.

    Args:
        old (str, optional): A checkpoint of the old training, or its work dir. Defaults to None: the hook is off.
        loss (dict, optional): Settings of :class:`BackwardCompatLoss`. Defaults to None.
        classifier (str): ``'auto'``, ``'head'`` or ``'prototypes'``. Defaults to ``'auto'``.
        dataloader (dict, optional): Config of a dataloader of the training images, without augmentation, for the
            prototypes. Defaults to None.

    Raises:
        ValueError: Before training: if the new embeddings are narrower than the old ones, if there is nothing to make
            the classifier of, or if images have several labels.
        TypeError: If the model is no ``HybridClassifier``.
        FileNotFoundError: If there is no old checkpoint.
    """

    priority = 'LOW'  # the class names and the data of the run are there

    def __init__(
        self,
        old: Optional[str] = None,
        loss: Optional[dict] = None,
        classifier: str = 'auto',
        dataloader: Optional[dict] = None,
    ) -> None:
        check_choice('BackwardCompatHook', 'classifier', classifier, ('auto', 'head', 'prototypes'))
        self.old, self.classifier, self.dataloader = old, classifier, dataloader
        self.loss: BackwardCompatLoss = MODELS.build({'type': 'BackwardCompatLoss', **(loss or {})})
        self._terms: Optional[BackwardCompat] = None
        self._about: Optional[dict[str, Any]] = None

    def before_run(self, runner: Runner) -> None:
        """Build the old model and check that it is compatible, before the training; a test does not need its file."""
        if self.old is None or self._terms is not None or built_loop(runner, 'train') is None:
            return
        model = _model_of(runner)
        found = find_checkpoint(self.old)
        check_file('BackwardCompatHook', 'old checkpoint', found.path)
        with isolated_randomness():
            network = build_teacher(model_in_checkpoint(found.path), found.path)
        self._about = dict(
            checkpoint=os.path.abspath(found.path), digest=digest_of_state(network.state_dict()), width=0
        )
        old = Teacher(network, teacher_image_size(found.path), needs_logits=False)
        width = self._about['width'] = old.embedding_width(224, 224)
        own = getattr(model.head, 'in_channels', None)
        if own is not None and own < width:
            raise ValueError(
                f'BackwardCompatHook: expected embeddings of at least {width} numbers, as the old model has, got '
                f"{own}. Use a wider model, or a neck: model.neck=dict(type='ConcatFusion', fusion_dim={width})."
            )
        self._terms = BackwardCompat(old, self.loss, width)
        if self.loss.influence_weight:
            self._terms.old_classes = self._classes_of_head(runner, model, network)
        runner.logger.info(
            f'BackwardCompatHook: the old model is {found.path}; its classifier is '
            f'{self._said(self._terms.old_classes)}; embeddings of {width} numbers are compared'
            f'{f", the first of {own}" if own is not None and own > width else ""}.'
        )

    def before_train(self, runner: Runner) -> None:
        """Compute the prototypes if they are the classifier, and attach the old model."""
        if self._terms is None:
            return
        model = _model_of(runner)
        if self.loss.influence_weight and self._terms.old_classes is None:
            with isolated_randomness():
                self._terms.prototypes, self._terms.old_classes = self._prototypes(runner, model, self._terms.old)
        model.backward_compat = self._terms

    def after_train(self, runner: Runner) -> None:
        """Detach the old model."""
        if self._terms is not None:
            _model_of(runner).backward_compat = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Record which weights the embeddings are compatible with, after the first update."""
        if self._about is not None and runner.iter > 0:
            record_compatible(checkpoint, [self._about])

    def _classes_of_head(self, runner: Runner, model: HybridClassifier, network: Any) -> Optional[Tensor]:
        """Return the number of each class in the old head, (C,); None for prototypes."""
        heads = (model.head, network.head)
        several = next((head for head in heads if is_multi_label(head)), None)
        if several is not None:
            raise ValueError(
                f'BackwardCompatHook: expected heads whose classes exclude each other, got {type(several).__name__}. '
                'Set loss=dict(influence_weight=0, alignment_weight=1).'
            )
        if self.classifier == 'prototypes':
            self._check_prototypes(None)
            return None
        count = getattr(network.head, 'num_classes', None)
        if count is None:
            self._check_prototypes(f'the head of the old model, {type(network.head).__name__}, has no classes')
            return None
        now, before = class_names_of(runner.train_dataloader.dataset), network.class_names
        numbers = _numbers_in(before, count, now, getattr(model.head, 'num_classes', None))
        missing = [number for number, old in enumerate(numbers) if old is None]
        if missing and (self.classifier == 'auto' or len(missing) == len(numbers)):
            names = [str(number) if now is None else now.names[number] for number in missing]
            self._check_prototypes(f'the old model does not know the classes {listed(names, 5)}')
            return None
        return torch.tensor([-1 if number is None else number for number in numbers])

    def _check_prototypes(self, why: Optional[str]) -> None:
        if self.classifier == 'head':
            raise ValueError(f"BackwardCompatHook: {why}. Set classifier='prototypes' in the hook.")
        if self.dataloader is None:
            raise ValueError(
                'BackwardCompatHook: expected a dataloader of the training images, without augmentation, for the '
                f'prototypes{f" ({why})" if why else ""}, got None. Set dataloader in the hook, as '
                'configs/finetune/full.py does.'
            )

    def _said(self, old_classes: Optional[Tensor]) -> str:
        if not self.loss.influence_weight:
            return 'not used'
        if old_classes is None:
            return 'made of prototypes of the training images'
        known = int((old_classes >= 0).sum())
        return f'its head, which has {known} of the {len(old_classes)} classes'

    def _prototypes(self, runner: Runner, model: HybridClassifier, old: Teacher) -> tuple[Tensor, Tensor]:
        loader = runner.build_dataloader(self.dataloader)
        renumber_labels(runner, loader.dataset, 'images of the prototypes')
        runner.call_hook('after_build_dataloader', dataloader=loader)
        embeddings, labels = embed_dataset(
            _OldModel(old, model.data_preprocessor), loader, 'embedding by the old model'
        )
        drop_iterator(loader)
        names = class_names_of(runner.train_dataloader.dataset)
        count = getattr(model.head, 'num_classes', None) or (len(names.names) if names else None)
        found: list[Any] = [None]
        if labels:
            several = next((own for own in labels if len(own) != 1), None)
            if several is not None:
                raise ValueError(f'BackwardCompatHook: expected images with one label each, got {several}.')
            flat = torch.tensor(labels).flatten()
            found = [class_means(embeddings, flat, count or int(flat.max()) + 1)]
        broadcast_object_list(found)
        prototypes, rows = found[0]
        device = next(model.parameters()).device
        return prototypes.to(device), rows.to(device)


class _OldModel(nn.Module):
    """The old model behind the new one's data preprocessor, for :func:`embed_dataset`."""

    def __init__(self, old: Teacher, data_preprocessor: nn.Module) -> None:
        super().__init__()
        self._old, self._prepare = old, [data_preprocessor]  # a list: no part of this module

    def test_step(self, data: Any) -> list[DataSample]:
        """Write the embeddings to the samples of a batch."""
        batch = self._prepare[0](data, False)
        embeddings = self._old(batch['inputs'])[1]
        for sample, embedding in zip(batch['data_samples'], embeddings, strict=True):
            sample.set_field(embedding, 'embedding')
        return batch['data_samples']


def _numbers_in(
    before: Optional[ClassNames], count: int, now: Optional[ClassNames], own: Optional[int]
) -> Sequence[Optional[int]]:
    """Return the old number of each training class, by name; None if no names are known."""
    if before is not None and now is not None:
        return before.find(now)
    # No names on one side: the numbers are all there is, where they are as many.
    return list(range(count)) if own == count else [None] * (own or count)


def _model_of(runner: Runner) -> HybridClassifier:
    model = bare_model(runner.model)
    if not isinstance(model, HybridClassifier) or not getattr(model.data_preprocessor, 'gives_unit_range', False):
        raise TypeError(
            'BackwardCompatHook: expected a HybridClassifier with a HybridDataPreprocessor without mean and std, got '
            f'a {type(model).__name__} with a {type(model.data_preprocessor).__name__}.'
        )
    return model
