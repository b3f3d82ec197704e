"""The asymmetric loss of multi-label classification."""

from typing import Optional

import torch.nn.functional as F
from mmpretrain.models.losses import AsymmetricLoss as _AsymmetricLoss
from torch import Tensor

from hybridcls.checks import check_choice, check_number
from hybridcls.functional.multilabel import asymmetric_loss
from hybridcls.registry import MODELS


@MODELS.register_module()
class AsymmetricLoss(_AsymmetricLoss):
    r"""mmpretrain's ``AsymmetricLoss`` on logits, in float32 under mixed precision, with weights for positives.

    The formula is that of :func:`hybridcls.functional.multilabel.asymmetric_loss` (`Ridnik et al.
    <https://arxiv.org/abs/2009.14119>`_). mmpretrain's own takes logarithms of probabilities that are clamped at
    1e-8: in half precision that is 0, and the loss infinite.

    Args:
        gamma_pos (float): :math:`\gamma_+`, 0 or more. Defaults to 0.
        gamma_neg (float): :math:`\gamma_-`, 0 or more. Defaults to 4.
        clip (float): m in [0, 1). Defaults to 0.05.
        reduction (str): ``'mean'`` (with ``avg_factor``: the sum divided by it), ``'sum'`` or ``'none'``. Defaults to
            ``'mean'``.
        loss_weight (float): A factor. Defaults to 1.
        use_sigmoid (bool): False: mmpretrain's form with a softmax, as it stands there. Defaults to True.
        eps (float): The least probability, with ``use_sigmoid=False``. Defaults to 1e-8.
        focal_gradient (bool): Whether the focusing factors have a gradient. Defaults to True.

    Shape:
        - pred: logits (N, C); target: (N, C), 0 or 1, or between them (mixup); or classes, int64 (N,).
        - returns: scalar, float32 or float64; (N, C) with ``reduction='none'``.

    Raises:
        ValueError, TypeError: If a number is out of range.

    Example:
        >>> import torch
        >>> loss = MODELS.build(dict(type='AsymmetricLoss'))
        >>> loss(torch.tensor([[-60., 0.]]), torch.tensor([[1., 1.]]), avg_factor=1).round(decimals=2)
        tensor(60.6900)
    """

    def __init__(
        self,
        gamma_pos: float = 0.0,
        gamma_neg: float = 4.0,
        clip: float = 0.05,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        use_sigmoid: bool = True,
        eps: float = 1e-8,
        focal_gradient: bool = True,
    ) -> None:
        check_number('AsymmetricLoss', 'gamma_pos', gamma_pos, 0)
        check_number('AsymmetricLoss', 'gamma_neg', gamma_neg, 0)
        check_number('AsymmetricLoss', 'clip', clip, 0, 1, high_open=True)
        check_choice('AsymmetricLoss', 'reduction', reduction, ('mean', 'sum', 'none'))
        super().__init__(gamma_pos, gamma_neg, clip, reduction, loss_weight, use_sigmoid, eps)
        self.focal_gradient = focal_gradient

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Optional[Tensor] = None,
        avg_factor: Optional[float] = None,
        reduction_override: Optional[str] = None,
        pos_weight: Optional[Tensor] = None,
    ) -> Tensor:
        """Return the loss; ``weight`` (N,) multiplies samples, ``pos_weight`` (C,) the positives of each class."""
        if not self.use_sigmoid:
            return super().forward(pred, target, weight, avg_factor, reduction_override)
        if target.dim() == 1:
            target = F.one_hot(target, pred.shape[1])
        losses = self.loss_weight * asymmetric_loss(
            pred, target, self.gamma_pos, self.gamma_neg, self.clip, pos_weight, self.focal_gradient
        )
        if weight is not None:
            losses = losses * weight.unsqueeze(1)
        reduction = reduction_override or self.reduction
        if reduction == 'none':
            return losses
        total = losses.sum()
        return total if reduction == 'sum' else total / (losses.numel() if avg_factor is None else avg_factor)
