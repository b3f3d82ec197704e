"""The model of every phase: backbone, neck and head, built from the registry."""

from collections.abc import Callable, Sequence
from typing import Any, Optional, Protocol, Union

import torch
from mmengine.logging import print_log
from mmpretrain.models.classifiers import BaseClassifier
from mmpretrain.structures import DataSample
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

from hybridcls.checks import check_choice, check_known_keys, check_number
from hybridcls.distributed.sharded_parameters import exclude_from_ddp
from hybridcls.registry import MODELS
from hybridcls.replay.gradient_cache import GradientCache
from hybridcls.structures import known_rows, move_to_cpu

from ..building.chain import as_features, build_chain
from ..building.preprocessor import build_preprocessor
from ..data_preprocessors.image_range import check_unit_range, normalization_of, range_after
from ..heads.head import check_head, samples_of_rows
from .backward_compat import BackwardCompat
from .stream_skipping import StreamSkipping

STAGES = ('backbone', 'neck', 'pre_logits')


class LossTerms(Protocol):
    """The protocol of additional losses from outside of the model, such as a teacher's."""

    def add_to(self, losses: dict[str, Any], student: Any, images: Tensor, features: Any) -> dict[str, Any]:
        """Return the losses with the additional ones; see :meth:`Distillation.add_to`."""


@MODELS.register_module()
class HybridClassifier(BaseClassifier):
    """Backbone, neck and head for SupCon pre-training and for classification alike: the head decides the task.

    Checkpoints of two phases share every name but ``head.*``. Channel counts are typed once, in the backbone: a neck
    or head whose ``in_channels`` is not given learns it from what stands before it. Parts may be ours, mmpretrain's,
    or of any package whose registry is a child of mmengine's.

    Args:
        backbone (dict | nn.Module): Config of the backbone; gives a tuple of features.
        neck (dict | nn.Module, optional): Config of the neck. Defaults to None: the head gets the backbone's last
            feature, which a backbone of two streams must not do.
        head (dict | nn.Module, optional): Config of the head. Defaults to None: only features can be extracted.
        train_cfg (dict, optional): Batch augmentation, as mmpretrain's ``ImageClassifier`` has it: ``augments`` and
            ``probs``. Defaults to None.
        data_preprocessor (dict | nn.Module, optional): Defaults to ``HybridDataPreprocessor``: RGB in [0, 1]. Our
            streams normalize these by themselves; for a bare backbone of mmpretrain they are normalized here, as the
            log says, unless ``data_preprocessor`` has ``mean`` and ``std``.
        sync_bn (bool): Let BatchNorm take its statistics over all processes (GPUs only). The top-level
            ``sync_bn = 'torch'`` of a config sets it. Defaults to False.
        grad_cache (dict, optional): ``dict(micro_batch=64)``: in training, embed so many views at a time and keep the
            activations of none, for the gradient of the whole batch in the memory of a small one, at the cost of
            another forward pass; see :class:`hybridcls.models.modules.GradientCache`. Defaults to None.
        distill_projection (int, optional): Width of a teacher's embedding; adds the linear projection that feature
            distillation learns. ``DistillationHook(feature_weight=...)`` in a config sets it for the training; a model
            without one leaves that of a checkpoint aside. Defaults to None.
        init_cfg (dict, optional): mmengine's initialisation config.

    Attributes:
        distillation (LossTerms, optional): The terms of a teacher (:class:`Distillation`), while one is attached.
        backward_compat (BackwardCompat, optional): The terms of an old model, while one is attached.
        skipping (StreamSkipping, optional): Which stream predictions leave out for images that are sure without it;
            None: no stream.
        loss_recorder (Callable, optional): Is called with the features and samples of each batch that is trained on.

    Shape:
        - inputs: what the data preprocessor gives, ``(V * B, 3, H, W)``: V views of B images, view by view.
        - embedding: ``(V * B, D)``; in predictions the mean over the views, ``(B, D)``.

    Raises:
        ValueError: If two streams meet no neck, or images would be normalized twice or not at all.
        TypeError: If a part does not know a key, or is neither a dict nor a module.

    Example:
        >>> model = HybridClassifier(
        ...     backbone=dict(type='HybridBackbone', cnn=dict(model_name='test_resnet'),
        ...                   vit=dict(model_name='test_vit'), img_size=64),
        ...     neck=dict(type='DHAFusion', fusion_dim=16), head=dict(type='LinearHead', num_classes=3))
        >>> import torch
        >>> model.eval()(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 3])
    """

    backbone: Any
    neck: Any
    head: Any
    image_mean: Any  # Tensors of [0, 1], for a bare backbone of mmpretrain; None: others normalize
    image_std: Any

    def __init__(
        self,
        backbone: Union[dict, nn.Module],
        neck: Union[dict, nn.Module, None] = None,
        head: Union[dict, nn.Module, None] = None,
        train_cfg: Optional[dict] = None,
        data_preprocessor: Union[dict, nn.Module, None] = None,
        sync_bn: bool = False,
        grad_cache: Optional[dict] = None,
        distill_projection: Optional[int] = None,
        init_cfg: Optional[dict] = None,
    ) -> None:
        # Before the base class is initialised, since it takes the preprocessor, which needs the head's classes.
        chain = build_chain('HybridClassifier', backbone, neck, head)
        if chain.head is not None:
            check_head('HybridClassifier', chain.head)
        num_classes = getattr(chain.head, 'num_classes', None)
        preprocessor = build_preprocessor('HybridClassifier', data_preprocessor, train_cfg, num_classes)
        super().__init__(data_preprocessor=preprocessor, init_cfg=init_cfg)
        self.backbone, self.neck, self.head = chain[:3]
        self._normalize_for_backbone()
        self.distillation: Optional[LossTerms] = None
        self.backward_compat: Optional[BackwardCompat] = None
        self.skipping: Optional[StreamSkipping] = None
        self.loss_recorder: Optional[Callable[[Any, Sequence[DataSample]], None]] = None
        if distill_projection is not None:
            check_number('HybridClassifier', 'distill_projection', distill_projection, 1, integer=True)
            if chain.width is None:
                raise ValueError('HybridClassifier: distill_projection needs a neck that declares its out_channels.')
            self.distill_projection = nn.Linear(chain.width, distill_projection)
        else:
            self.register_load_state_dict_pre_hook(_without_projection)
        if sync_bn:
            # Not torch's converter, which mmengine uses: it drops the activation that timm's BatchNormAct2d holds.
            convert_sync_batchnorm(self)
        self.grad_cache = _build_grad_cache(grad_cache)
        exclude_from_ddp(self)

    def _normalize_for_backbone(self) -> None:
        """Ensure that images are normalized once: by the streams, by the data preprocessor, or here."""
        given = range_after(self.data_preprocessor)
        if getattr(self.backbone, 'takes_unit_range', False) and given is not None:
            check_unit_range(f'HybridClassifier: {type(self.data_preprocessor).__name__}', *given)
        by_mmpretrain = normalization_of(self.backbone) if given == (0.0, 1.0) else None
        for name, values in zip(('image_mean', 'image_std'), by_mmpretrain or (None, None), strict=True):
            value = None if values is None else torch.tensor(values)[:, None, None]
            self.register_buffer(name, value, persistent=False)
        if by_mmpretrain is not None:
            mean, std = by_mmpretrain
            print_log(
                f'HybridClassifier: images in [0, 1] are normalized for {type(self.backbone).__name__}: mean={mean}, '
                f'std={std}. For another normalization set data_preprocessor=dict(mean=[...], std=[...]), of values '
                'in [0, 255].',
                logger='current',
            )

    @property
    def img_size(self) -> Union[int, tuple[int, int], None]:
        """The image size (h, w) that the backbone was built for; None: any."""
        return getattr(self.backbone, 'img_size', None)

    @property
    def gives_logits(self) -> bool:
        """Whether the head has classes, so that calling the model returns logits."""
        return getattr(self.head, 'num_classes', None) is not None

    def extract_feat(self, inputs: Tensor, stage: str = 'neck') -> Any:
        """Return the features of a stage.

        Args:
            inputs (Tensor): ``(N, 3, H, W)`` from the data preprocessor.
            stage (str): ``'backbone'``: the tuple of the streams' features; ``'neck'``: a tuple whose last entry is
                the embedding; ``'pre_logits'``: what the head's last layer sees. Defaults to ``'neck'``.

        Returns:
            tuple | Tensor: A tuple of tensors, or a tensor for ``'pre_logits'``.
        """
        check_choice('HybridClassifier.extract_feat', 'stage', stage, STAGES)
        if self.image_mean is not None:
            inputs = (inputs - self.image_mean) / self.image_std
        features = as_features('HybridClassifier', 'backbone', self.backbone(inputs))
        if stage == 'backbone':
            return features
        if self.neck is not None:
            features = as_features('HybridClassifier', 'neck', self.neck(features))
        if stage == 'neck':
            return features
        if not hasattr(self.head, 'pre_logits'):
            raise ValueError(
                f'HybridClassifier.extract_feat: the head ({type(self.head).__name__}) has no stage '
                "'pre_logits'. Use stage='neck'."
            )
        return self.head.pre_logits(features)

    def forward(self, inputs: Tensor, data_samples: Optional[list[DataSample]] = None, mode: str = 'tensor') -> Any:
        """Return logits (``'tensor'``), a dict of losses (``'loss'``) or DataSamples (``'predict'``)."""
        if mode == 'tensor':
            features = self.extract_feat(inputs)
            return features if self.head is None else self.head(features)
        check_choice('HybridClassifier', 'mode', mode, ('tensor', 'loss', 'predict'))
        if self.head is None:
            raise ValueError(
                f'HybridClassifier: mode={mode!r} needs a head, and the model has none. Use extract_feat, '
                "or add head=dict(type='LinearHead', num_classes=...)."
            )
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        return self.predict(inputs, data_samples)

    def loss(self, inputs: Tensor, data_samples: Any) -> dict[str, Tensor]:
        """Return the named losses of a batch: the head's, and those of a teacher or an old model if one is attached."""
        if self.grad_cache is None or not self.training:
            features = self.extract_feat(inputs)
        else:
            parts = [part for part in (self.backbone, self.neck) if part is not None]
            features = self.grad_cache(self.extract_feat, inputs, parts)
        losses = self._loss(features, data_samples)
        if self.loss_recorder is not None and self.training:
            self.loss_recorder(features, data_samples)
        if self.distillation is not None:
            losses = self.distillation.add_to(losses, self, inputs, features)
        if self.backward_compat is not None:
            losses |= self.backward_compat.losses(inputs, features, data_samples)
        return losses

    def _loss(self, features: Any, data_samples: Sequence[DataSample]) -> dict[str, Tensor]:
        if isinstance(features[-1], Tensor):
            data_samples = samples_of_rows(self.head, len(features[-1]), data_samples)
        for sample in data_samples:
            # One-hot labels of an image that was not mixed (in a validation) are int64, which no loss takes.
            if 'gt_score' in sample and not sample.gt_score.is_floating_point():
                sample.set_gt_score(sample.gt_score.float())
        return self.head.loss(features, data_samples)

    def predict(
        self, inputs: Tensor, data_samples: Optional[list[DataSample]] = None, **kwargs: Any
    ) -> list[DataSample]:
        """Return one DataSample an image; of several views the embeddings are averaged."""
        if self.skipping is not None:
            return self.skipping.predict(self, inputs, data_samples, **kwargs)
        return self._predict(inputs, self.extract_feat(inputs), data_samples, **kwargs)

    def _predict(
        self, inputs: Tensor, features: Any, data_samples: Optional[list[DataSample]], **kwargs: Any
    ) -> list[DataSample]:
        """Predict from the features of the inputs. (The inputs themselves are for classifiers that use them again.)"""
        if data_samples is not None and len(features[-1]) != len(data_samples):
            images = len(data_samples)
            features = tuple(feature.unflatten(0, (-1, images)).mean(dim=0) for feature in features)
        check_head('HybridClassifier', self.head, 'predict')
        return self.head.predict(features, data_samples, **kwargs)

    def val_step(self, data: Union[dict, tuple, list]) -> list[DataSample]:
        """Predict a validation batch, and add its losses.

        The losses are the head's, in eval mode, on the same forward pass; each sample carries those of its batch in
        ``val_losses``, so that their mean over the samples (metric ``ValLoss``) is right with a smaller last batch.
        Images without labels, or of classes that the head does not have (label -1, or from ``num_classes`` on),
        carry none and take no part in them.
        """
        batch: Any = self.data_preprocessor(data, False)
        samples = batch.get('data_samples')
        features = self.extract_feat(batch['inputs'])
        losses, rows = {}, []
        if samples and ('gt_label' in samples[0] or 'gt_score' in samples[0]):
            rows = known_rows(samples, getattr(self.head, 'num_classes', None))
        if rows:
            # Losses first: predict writes onto the samples that loss reads.
            losses = self._loss(_rows_of(features, rows, len(samples)), [samples[row] for row in rows])
        predictions = self._predict(batch['inputs'], features, samples)
        if losses:
            values = {name: value.detach().float().mean().cpu() for name, value in losses.items()}
            for row in rows:
                predictions[row].set_field(values, 'val_losses')
        move_to_cpu(predictions)
        return predictions

    def test_step(self, data: Union[dict, tuple, list]) -> list[DataSample]:
        """Predict a batch; the predictions are moved to the CPU at once, for metrics that read them one by one."""
        predictions = super().test_step(data)
        move_to_cpu(predictions)
        return predictions

    def get_layer_depth(self, param_name: str) -> tuple[int, int]:
        """Return (depth, number of depths) of a parameter, for layer-wise learning rates; see HybridBackbone."""
        if not hasattr(self.backbone, 'get_layer_depth'):
            raise ValueError(
                f'HybridClassifier: {type(self.backbone).__name__} does not tell in which order its '
                'parameters come (it has no get_layer_depth), so layer-wise learning rates cannot be used with it. '
                'Set optim_wrapper.paramwise_cfg.layer_decay_rate=1, or give it get_layer_depth(param_name, prefix) -> '
                '(depth, number of depths).'
            )
        return self.backbone.get_layer_depth(param_name, 'backbone.')


def _without_projection(module: nn.Module, state: dict, prefix: str, *args: Any) -> None:
    """Remove weights from a state dict that only the training with a teacher needed."""
    for name in [name for name in state if name.startswith(f'{prefix}distill_projection.')]:
        del state[name]


def _rows_of(features: Any, rows: list[int], num_samples: int) -> Any:
    """Return the features of some samples, in all of their views."""
    if len(rows) == num_samples:
        return features
    return tuple(feature.unflatten(0, (-1, num_samples))[:, rows].flatten(0, 1) for feature in features)


def _build_grad_cache(grad_cache: Optional[dict]) -> Optional[GradientCache]:
    if grad_cache is None:
        return None
    if not isinstance(grad_cache, dict) or not grad_cache:
        raise TypeError(f'HybridClassifier: grad_cache={grad_cache!r} must be a dict, dict(micro_batch=64), or None.')
    check_known_keys('HybridClassifier: grad_cache', grad_cache, ['micro_batch'])
    return GradientCache(**grad_cache)
