"""A linear classification head."""

from collections.abc import Sequence
from typing import Optional, Union

import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from hybridcls.checks import check_number
from hybridcls.functional.logistic_regression import fit_logistic_regression
from hybridcls.registry import MODELS
from hybridcls.signatures import takes_argument
from hybridcls.structures import read_targets

from ..modules.class_balance import ClassWeight, LogitAdjustment
from .classification_head import ClassificationHead
from .head import Features


@MODELS.register_module()
class LinearHead(ClassificationHead):
    """A linear layer with cross entropy, or another loss of logits.

    Each view of an image is one more sample with the image's label. Soft labels (mixup, cutmix) are taken where the
    samples have them.

    Args:
        num_classes (int): C.
        in_channels (int, optional): Width of the embedding. ``HybridClassifier`` fills it in.
        label_smoothing (float): Share of the target that is spread evenly over all classes, in [0, 1). Defaults to 0.
        class_weight (str | dict | Sequence[float], optional): A factor for the loss of each class, ``'balanced'``,
            ``'effective'``, ``dict(type='effective', beta=0.9999)``, or C numbers >= 0; see
            :class:`ClassificationHead`. With label smoothing or soft labels it weighs the log-probability of each
            class, as torch's ``cross_entropy(weight=...)`` does. Defaults to None.
        topk (int | Sequence[int]): Log these accuracies, as ``accuracy_top-k`` in percent, when labels are hard.
            Defaults to 1.
        init_cfg (dict | list[dict], optional): Defaults to weights from a normal distribution of standard deviation
            0.01, bias 0.
        loss (dict | nn.Module, optional): Another loss, as mmpretrain's heads take it: any registered module that is
            called as ``loss(logits, targets)`` and returns a scalar, such as ``dict(type='LabelSmoothLoss',
            label_smooth_val=0.1)`` or ``dict(type='torch.nn.MultiMarginLoss')``. Logits are (N, C), float32 or float64;
            targets int64 (N,), or probabilities (N, C) of the logits' dtype where labels are soft. One that takes
            ``avg_factor`` gets N, so that it is what mmpretrain's ``LinearClsHead`` computes. Smoothing and weights of
            classes are settings of that loss then. Defaults to None: cross entropy.
        logit_adjustment (float | dict, optional): See :class:`ClassificationHead`; another loss gets the adjusted
            logits. Defaults to None.

    Raises:
        ValueError, TypeError: If a number is out of range, or a label is, or a loss is not one of logits.

    Example:
        >>> head = MODELS.build(dict(type='LinearHead', num_classes=3, in_channels=8))
        >>> losses = head.loss((torch.ones(2, 8),), [DataSample().set_gt_label(label) for label in (0, 2)])
        >>> sorted(losses)
        ['accuracy_top-1', 'loss']
        >>> head.predict((torch.ones(2, 8),))[0].pred_score.shape
        torch.Size([3])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: Optional[int] = None,
        label_smoothing: float = 0.0,
        class_weight: ClassWeight = None,
        topk: Union[int, Sequence[int]] = 1,
        init_cfg: Optional[Union[dict, list]] = dict(type='Normal', layer='Linear', std=0.01),  # noqa: B006
        loss: Union[dict, nn.Module, None] = None,
        logit_adjustment: LogitAdjustment = None,
    ) -> None:
        super().__init__(num_classes, in_channels, label_smoothing, init_cfg, class_weight, logit_adjustment)
        self.topk = (topk,) if isinstance(topk, int) else tuple(topk)
        for k in self.topk:
            check_number('LinearHead', 'topk', k, 1, num_classes, integer=True)
        if loss is not None and (label_smoothing or class_weight is not None):
            given = [f'label_smoothing={label_smoothing}'] * bool(label_smoothing)
            given += ['class_weight'] * (class_weight is not None)
            off = ['label_smoothing=0.0'] * bool(label_smoothing) + ['class_weight=None'] * (class_weight is not None)
            raise ValueError(
                f'LinearHead: {" and ".join(given)} {"are" if len(given) > 1 else "is"} for the default cross entropy, '
                f'but loss is given. Write {", ".join(off)} beside loss, or drop loss.'
            )
        # Where mmpretrain's heads have it, so that SwitchRecipeHook finds it; None: cross entropy.
        self.loss_module = loss if loss is None or isinstance(loss, nn.Module) else MODELS.build(loss)
        self.fc = nn.Linear(self.in_channels, num_classes)

    @property
    def class_weight(self) -> Optional[Tensor]:
        """The weight of each class in the loss, (C,); None: all are 1."""
        return self.class_balance.weight

    def forward(self, feats: Features) -> Tensor:
        """Return logits, shape (N, C)."""
        return self.class_balance.scored(self.fc(self.pre_logits(feats)))

    def loss(self, feats: Features, data_samples: Sequence[DataSample]) -> dict[str, Tensor]:
        """Return ``loss`` and, with hard labels, ``accuracy_top-k`` in percent."""
        self.warn_of_bad_embeddings(self.pre_logits(feats), data_samples)
        logits = self.fc(self.pre_logits(feats))
        targets = read_targets('LinearHead', data_samples, logits.device, self.num_classes)
        num_views = self.count_views(logits, data_samples)
        targets = targets.repeat(num_views, *[1] * (targets.dim() - 1))
        # float64 stays; half precision would lose the sum over classes.
        logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        if targets.is_floating_point():
            targets = targets.to(logits.dtype)
        losses = dict(loss=self._loss_of(logits, targets))
        if not targets.is_floating_point():
            best = logits.detach().topk(max(self.topk), dim=1).indices
            for k in self.topk:
                losses[f'accuracy_top-{k}'] = self.accuracy(best[:, :k], targets)
        return losses

    @torch.no_grad()
    def fit(self, embeddings: Tensor, labels: Tensor) -> str:
        """Set the layer to a logistic regression with the class weights and logit adjustment, without label smoothing.

        By :func:`hybridcls.functional.fit_logistic_regression`.

        Args:
            embeddings (Tensor): ``(N, D)``, of images that are not augmented.
            labels (Tensor): int64 ``(N,)``.

        Returns:
            str: What was done, for the log.
        """
        weight, adjustment = self.class_weight, self.class_balance.loss_adjustment

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            outputs = outputs if adjustment is None else outputs + adjustment.to(outputs)
            weights = None if weight is None else weight.to(outputs)
            return F.cross_entropy(outputs, targets, weights, reduction='none').mean()

        is_plain = weight is None and adjustment is None
        fit = fit_logistic_regression(embeddings, labels, self.num_classes, loss=None if is_plain else loss)
        self.fc.weight.copy_(fit.weight)
        self.fc.bias.copy_(fit.bias)
        return f'logistic regression (C={fit.inverse_penalty:g})'

    def _loss_of(self, logits: Tensor, targets: Tensor) -> Tensor:
        adjustment = self.class_balance.loss_adjustment
        if adjustment is not None:
            logits = logits + adjustment
        if self.loss_module is None:
            weight = self.class_weight
            weight = None if weight is None else weight.to(logits.dtype)
            return F.cross_entropy(
                logits, targets, weight, reduction='none', label_smoothing=self.label_smoothing
            ).mean()
        mean_over = dict(avg_factor=len(logits)) if takes_argument(self.loss_module.forward, 'avg_factor') else {}
        loss = self.loss_module(logits, targets, **mean_over)
        if not isinstance(loss, Tensor) or loss.dim():
            got = f'shape {tuple(loss.shape)}' if isinstance(loss, Tensor) else type(loss).__name__
            raise TypeError(
                f'LinearHead: expected a scalar from its loss {type(self.loss_module).__name__}, got {got}. Give it '
                "reduction='mean', or let its forward(logits, targets) return one number."
            )
        return loss
