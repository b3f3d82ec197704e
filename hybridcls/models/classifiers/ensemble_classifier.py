"""An ensemble of trained classifiers, with the uncertainty from their disagreement."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

import torch
from mmengine.logging import print_log
from mmengine.runner.checkpoint import load_state_dict
from mmpretrain.models.classifiers import BaseClassifier
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from hybridcls.checkpoint_reading import read_checkpoint, weights_of
from hybridcls.checks import check_file, check_known_keys
from hybridcls.registry import MODELS
from hybridcls.structures import ClassNames, move_to_cpu, recorded_version

from ..data_preprocessors.image_range import range_after
from ..heads.head import is_multi_label
from ..weights.loaded_weights import differing_weights
from ..weights.timm_weights import fit_timm_weights
from .hybrid_classifier import HybridClassifier
from .mixture_predictions import aggregate_predictions

_PARTS = ('backbone', 'neck', 'head', 'train_cfg', 'data_preprocessor')


@MODELS.register_module()
class EnsembleClassifier(BaseClassifier):
    """Average the scores of trained ``HybridClassifier`` members, and report how much they disagree.

    `Deep ensembles <https://arxiv.org/abs/1612.01474>`_: one config, trained from several seeds. A child of that config
    tests them together; it needs no checkpoint on the command line (``python tools/test.py CONFIG``)::

        _base_ = 'adaface_hybrid.py'
        model = dict(type='EnsembleClassifier', members=['seed0/epoch_20.pth', 'seed1/epoch_20.pth'])

    Predictions carry the mean score and, in nats, ``total`` = ``aleatoric`` + ``epistemic``; with evidential members
    what these do not know themselves is epistemic, too, and ``vacuity`` is the mean. ``embedding`` is the first
    member's, since different networks' embeddings have nothing to do with each other. ``forward`` returns the
    logarithm of the mean score, whose softmax it is; of several labels an image the logit of it.

    Args:
        members (Sequence[str | dict | HybridClassifier]): A checkpoint or a classifier each; or a dict with
            ``checkpoint`` (may be missing: the weights then come with the ensemble's own) and whatever of the keys
            below differs from the common ones. All members must have the same classes, and images as the first
            member's data preprocessor makes them.
        backbone, neck, head, train_cfg, data_preprocessor: As for ``HybridClassifier``, common to the members.
        init_cfg (dict, optional): mmengine's initialisation config.

    Raises:
        ValueError: If there is no member, their classes differ in number, name or order, or a loss is asked for:
            members are trained one by one.
        FileNotFoundError: If a checkpoint is missing.
        RuntimeError: If a checkpoint is not of the member's model.

    Example:
        >>> model = EnsembleClassifier([{}, {}, {}], backbone=dict(type='LeNet5', num_classes=-1), neck=dict(
        ...     type='GlobalAveragePooling'), head=dict(type='LinearHead', num_classes=3, in_channels=120))
        >>> sample = model.eval().predict(torch.rand(2, 1, 32, 32))[0]
        >>> sample.pred_score.shape, bool(sample.epistemic > 0)
        (torch.Size([3]), True)
    """

    members: Any  # a ModuleList of HybridClassifier

    def __init__(
        self,
        members: Sequence[Union[str, Mapping[str, Any], nn.Module]],
        backbone: Optional[dict] = None,
        neck: Optional[dict] = None,
        head: Optional[dict] = None,
        train_cfg: Optional[dict] = None,
        data_preprocessor: Optional[dict] = None,
        init_cfg: Optional[dict] = None,
    ) -> None:
        if not members or isinstance(members, str):
            raise ValueError(f'EnsembleClassifier: expected members as a list of checkpoints, got members={members!r}.')
        common = dict(backbone=backbone, neck=neck, head=head, train_cfg=train_cfg, data_preprocessor=data_preprocessor)
        chosen = [dict(checkpoint=member) if isinstance(member, str) else member for member in members]
        built, names = zip(*(_build(number, member, common) for number, member in enumerate(chosen)), strict=True)
        classes = [getattr(member.head, 'num_classes', None) for member in built]
        if len(set(classes)) > 1:
            raise ValueError(
                f'EnsembleClassifier: expected members with the same classes, got members with {classes} classes, '
                'whose scores cannot be averaged.'
            )
        ranges = {range_after(member.data_preprocessor) for member in built}
        if len(ranges) > 1:
            raise ValueError(
                'EnsembleClassifier: the data preprocessors of the members differ in mean and std, but all members '
                'get the images of the first one. Give them one data_preprocessor.'
            )
        versions = {number: getattr(member, 'preprocessing_version', None) for number, member in enumerate(built)}
        if len({*versions.values()} - {None}) > 1:
            raise ValueError(
                f'EnsembleClassifier: expected members of one preprocessing version, got {versions}: LoadImage cannot '
                'read an image both ways. Train the members of version 1 again.'
            )
        super().__init__(data_preprocessor=built[0].data_preprocessor, init_cfg=init_cfg)
        self.members = nn.ModuleList(built)
        self.class_names: Optional[ClassNames] = None
        for number, other in enumerate(names):
            self.class_names = self.class_names or other
            if other is not None and self.class_names is not None and self.class_names.moved(other):
                raise ValueError(
                    f'EnsembleClassifier: expected members with the same classes in one order, got {other.names[:10]} '
                    f'of members[{number}] and {self.class_names.names[:10]} of another.'
                )
        self.preprocessing_version = next((version for version in versions.values() if version), None)

    def extract_feat(self, inputs: Tensor) -> list[Any]:
        """Return the features of each member, as its ``extract_feat`` does."""
        return [member.extract_feat(inputs) for member in self.members]

    def forward(self, inputs: Tensor, data_samples: Optional[list[DataSample]] = None, mode: str = 'tensor') -> Any:
        """Return the logarithm, or the logit, of the mean score (``'tensor'``) or DataSamples (``'predict'``)."""
        if mode == 'tensor':
            logits = torch.stack([member(inputs).float() for member in self.members])
            if is_multi_label(self.members[0].head):
                return logits.sigmoid().mean(0).logit(eps=torch.finfo(logits.dtype).eps)
            scores = logits.softmax(2).mean(0)
            return scores.clamp_min(torch.finfo(scores.dtype).tiny).log()
        if mode == 'loss':
            raise ValueError(
                'EnsembleClassifier: an ensemble is not trained as one. Train its members one by one, '
                'with one config and several seeds (--cfg-options randomness.seed=1).'
            )
        return self.predict(inputs, data_samples)

    def test_step(self, data: Union[dict, tuple, list]) -> list[DataSample]:
        """Predict a batch; the predictions are moved to the CPU at once, as a HybridClassifier does."""
        predictions = super().test_step(data)
        move_to_cpu(predictions)
        return predictions

    def predict(
        self, inputs: Tensor, data_samples: Optional[list[DataSample]] = None, **kwargs: Any
    ) -> list[DataSample]:
        """Return one DataSample an image."""
        images = len(inputs) if data_samples is None else len(data_samples)
        members = [member.predict(inputs, [DataSample() for _ in range(images)], **kwargs) for member in self.members]
        samples = [DataSample() for _ in range(images)] if data_samples is None else data_samples
        for sample, first in zip(samples, members[0], strict=True):
            for name, value in first.items():
                sample.set_field(value, name)
        return aggregate_predictions('EnsembleClassifier', samples, members, self.members[0].head)


def _build(number: int, member: Union[Mapping[str, Any], nn.Module], common: dict) -> tuple[Any, Optional[ClassNames]]:
    """Build a member, and read its class names from its checkpoint."""
    if isinstance(member, nn.Module):
        return member, getattr(member, 'class_names', None)
    check_known_keys(f'EnsembleClassifier: members[{number}]', member, ('checkpoint', *_PARTS))
    checkpoint = member.get('checkpoint')
    if checkpoint is not None and '://' not in checkpoint:
        check_file('EnsembleClassifier', f'members[{number}]', checkpoint)
    parts = {**common, **{key: value for key, value in member.items() if key != 'checkpoint'}}
    if parts['backbone'] is None:
        raise ValueError(f'EnsembleClassifier: members[{number}] has no backbone, neither of its own nor in common.')
    model = HybridClassifier(**parts)
    if checkpoint is None:
        return model, None
    loaded = read_checkpoint(checkpoint)
    weights, resized = fit_timm_weights(model, weights_of(loaded, str(checkpoint)))
    for name, old, new in resized:
        print_log(f'EnsembleClassifier: members[{number}] {checkpoint}: resized {name} from {old} to {new}', 'current')
    _check_shapes(f'EnsembleClassifier: members[{number}] {checkpoint}', model, weights)
    load_state_dict(model, weights, strict=True)
    different = differing_weights(model, weights)
    if different:
        raise RuntimeError(
            f'EnsembleClassifier: members[{number}] has other values than {checkpoint} after loading (first: '
            f'{different[0]}).'
        )
    model.preprocessing_version = recorded_version(loaded)
    return model, ClassNames.of_checkpoint(loaded)


def _check_shapes(caller: str, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Raise in one sentence if weights are for another model, other classes, or another image size."""
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in weights.items()}
    wrong = [name for name in {**own, **theirs} if own.get(name) != theirs.get(name)]
    if wrong:
        first = next((name for name in wrong if name in own and name in theirs), wrong[0])
        raise RuntimeError(
            f'{caller} is of another model, other classes or another image size than the ensemble: {first} is '
            f'{theirs.get(first, "missing")} there and {own.get(first, "missing")} here, and {len(wrong) - 1} more '
            'differ. Give members of the same classes; one of another backbone as dict(checkpoint=..., backbone=..., '
            'head=...).'
        )
