"""Several labels an image, or none."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from hybridcls.checks import check_number
from hybridcls.functional.full_precision import at_least_float32
from hybridcls.functional.logistic_regression import fit_logistic_regression
from hybridcls.registry import MODELS
from hybridcls.signatures import takes_argument
from hybridcls.structures import read_multi_targets, write_predictions

from ..modules.class_thresholds import ClassThresholds
from ..modules.positive_weight import PositiveWeight
from .embedding_head import EmbeddingHead
from .head import Features


@MODELS.register_module()
class MultiLabelHead(EmbeddingHead):
    """A linear layer for several labels per image: each class is present or absent, independently of the others.

    Labels are vectors of class numbers, of any length: an empty one is an image without any of the classes. Soft labels
    (mixup, cutmix) are taken. Each view of an image is one more sample with the image's labels.

    Losses are summed over the classes, and averaged over the samples: the gradient of a logit is then as large as that
    of a cross entropy, and learning rates are comparable. (mmpretrain's ``MultiLabelLinearClsHead`` does the same;
    torch's ``BCEWithLogitsLoss`` divides by C, too.)

    Args:
        num_classes (int): C.
        in_channels (int, optional): Width of the embedding. ``HybridClassifier`` fills it in.
        loss (dict | nn.Module, optional): Another loss, called as ``loss(logits, targets)`` with both (N, C):
            ``dict(type='AsymmetricLoss', gamma_neg=4, gamma_pos=0, clip=0.05)``. One that takes ``avg_factor`` gets N,
            and must take ``pos_weight`` if that is set. Defaults to None: binary cross entropy.
        pos_weight (str | float | Sequence[float], optional): A factor for the loss of positives: ``'balanced'``,
            negatives by positives in the training data, or numbers; see
            :class:`hybridcls.models.modules.positive_weight.PositiveWeight`. Defaults to None.
        thresholds (float | Sequence[float] | str | dict, optional): From which probability on a class is predicted: a
            number, one for each class, or fitted on the validation data by ``'f1'`` or ``dict(precision=0.9)``; see
            :class:`hybridcls.models.modules.class_thresholds.ClassThresholds`. Defaults to None: those of the
            checkpoint, else 0.5.
        init_cfg (dict | list[dict], optional): Defaults to weights from a normal distribution of standard deviation
            0.01, bias 0.

    Attributes:
        multi_label (bool): True: the *sigmoid* of what ``forward`` returns is the score.

    Raises:
        ValueError, TypeError: If a number is out of range, or a loss is not one of logits.

    Example:
        >>> import torch
        >>> head = MODELS.build(dict(type='MultiLabelHead', num_classes=3, in_channels=8, thresholds=0.4))
        >>> losses = head.loss((torch.ones(2, 8),), [DataSample().set_gt_label(labels) for labels in ([0, 2], [])])
        >>> list(losses)
        ['loss']
        >>> sample = head.predict((torch.ones(1, 8) * 0,))[0]
        >>> sample.pred_label.shape == ((sample.pred_score >= 0.4).sum(),)
        True
    """

    multi_label = True

    def __init__(
        self,
        num_classes: int,
        in_channels: Optional[int] = None,
        loss: Union[dict, nn.Module, None] = None,
        pos_weight: Union[str, float, Sequence[float], None] = None,
        thresholds: Union[float, Sequence[float], str, Mapping[str, Any], None] = None,
        init_cfg: Optional[Union[dict, list]] = dict(type='Normal', layer='Linear', std=0.01),  # noqa: B006
    ) -> None:
        super().__init__(in_channels, init_cfg)
        check_number('MultiLabelHead', 'num_classes', num_classes, 1, integer=True)
        self.num_classes = num_classes
        self.loss_module: Any
        self.loss_module = loss if loss is None or isinstance(loss, nn.Module) else MODELS.build(loss)
        self.positive_weight = PositiveWeight('MultiLabelHead', num_classes, pos_weight)
        if pos_weight is not None and loss is not None and not takes_argument(self.loss_module.forward, 'pos_weight'):
            raise ValueError(
                f'MultiLabelHead: expected a loss that takes pos_weight, got {type(self.loss_module).__name__}. Use '
                "loss=dict(type='AsymmetricLoss') or no loss (binary cross entropy), or drop pos_weight."
            )
        self.thresholds = ClassThresholds('MultiLabelHead', num_classes, thresholds)
        self.fc = nn.Linear(self.in_channels, num_classes)

    @property
    def needs_class_counts(self) -> bool:
        """Whether ``ClassCountsHook`` shall count the training images of each class for this head."""
        return bool(self.positive_weight.setting)

    def set_class_counts(self, counts: Union[Sequence[int], Tensor], num_images: int) -> str:
        """Take the number of training images of each class and of all, and say what follows from them."""
        return self.positive_weight.set_counts(counts, num_images)

    def forward(self, feats: Features) -> Tensor:
        """Return logits, shape (N, C), whose sigmoid is the score."""
        return self.fc(self.pre_logits(feats))

    def loss(self, feats: Features, data_samples: Sequence[DataSample]) -> dict[str, Tensor]:
        """Return ``loss``."""
        self.warn_of_bad_embeddings(self.pre_logits(feats), data_samples)
        logits = at_least_float32(self(feats))
        targets = read_multi_targets('MultiLabelHead', data_samples, logits.device, self.num_classes)
        targets = targets.to(logits.dtype).repeat(self.count_views(logits, data_samples), 1)
        weight = self.positive_weight.weight
        if self.loss_module is None:
            losses = F.binary_cross_entropy_with_logits(logits, targets, reduction='none', pos_weight=weight)
            return dict(loss=losses.sum() / len(logits))
        settings: dict[str, Any] = {} if weight is None else dict(pos_weight=weight)
        if takes_argument(self.loss_module.forward, 'avg_factor'):
            settings['avg_factor'] = len(logits)
        return dict(loss=self.loss_module(logits, targets, **settings))

    @torch.no_grad()
    def fit(self, embeddings: Tensor, labels: Tensor) -> str:
        """Set the layer to a logistic regression of each class, without ``pos_weight``.

        Args:
            embeddings (Tensor): ``(N, D)``, of images that are not augmented.
            labels (Tensor): 0 and 1, float ``(N, C)``.

        Returns:
            str: What was done, for the log.
        """
        fit = fit_logistic_regression(embeddings, labels, self.num_classes)
        self.fc.weight.copy_(fit.weight)
        self.fc.bias.copy_(fit.bias)
        return f'logistic regression of each class (C={fit.inverse_penalty:g})'

    def outputs(self, feats: Features) -> dict[str, Tensor]:
        """Return ``logits`` and ``probabilities``, their sigmoid, ``(N, C)``, and ``embedding`` ``(N, D)``."""
        logits = at_least_float32(self(feats))
        return dict(logits=logits, probabilities=logits.sigmoid(), embedding=self.pre_logits(feats))

    def predict(
        self, feats: Features, data_samples: Optional[Sequence[Optional[DataSample]]] = None
    ) -> list[DataSample]:
        """Write ``pred_score`` (C,), ``pred_label`` (n,), ``thresholds`` (C,) and ``embedding`` (D,) onto each sample.

        Scores are probabilities, one for each class, and ``pred_label`` are the classes at or above their
        thresholds. Scores and embeddings of several views of an image are averaged.
        """
        outputs = self.outputs(feats)
        return write_predictions(
            'MultiLabelHead', data_samples, outputs['embedding'], outputs['probabilities'],
            thresholds=self.thresholds.values,
        )  # fmt: skip
