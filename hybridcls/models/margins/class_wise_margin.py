"""A margin for each class."""

from collections.abc import Sequence
from typing import Any, Optional, Union

import torch
from torch import Tensor

from hybridcls.checks import check_number
from hybridcls.functional import margins_from_counts
from hybridcls.registry import MODELS

from .margin import Margin, log_scalars_of


@MODELS.register_module('ClassWise')
class ClassWiseMargin(Margin):
    r"""Apply another margin with one number per class: given, or larger for classes with fewer images.

    The rules by counts are described at :func:`hybridcls.functional.margins_from_counts`. Counts come from the config,
    or from the training data through ``custom_hooks = [dict(type='ClassMarginsHook')]``; until then every class has
    the margin ``high``. The numbers are the buffer ``class_margins``, shape (C,), and are in the checkpoint.

    Args:
        num_classes (int): C. A margin head fills it in.
        base (dict): The margin that gets the numbers: 'ArcFace' (default), 'CosFace', 'AdaFace', 'CombinedMargin' (its
            ``m2``), or any margin with a method ``with_margin(target_cosine, norms, margins)``.
        margins (Sequence[float], optional): The C margins themselves. Defaults to None.
        counts (Sequence[int], optional): Training images of each class. Defaults to None.
        low (float): The smallest margin. Defaults to 0.05.
        high (float): The largest. Defaults to 0.5.
        power (float): Of the count, < 0. Defaults to -0.25.
        rule (str): 'range' (default, mmpretrain's ``SetAdaptiveMarginsHook``) or 'proportional' (LDAM).

    Attributes:
        margin (float): The largest margin, to read or to set (a warm-up): all margins are scaled with it.

    Raises:
        ValueError: If a number is out of range, or there are not C of them.
        TypeError: If the base takes no margin for each row.

    Example:
        >>> margin = MODELS.build(dict(type='ClassWise', num_classes=2, base=dict(type='CosFace'), margins=[0.1, 0.5]))
        >>> margin(torch.tensor([0.5, 0.5]), torch.ones(2), torch.tensor([1, 0]))
        tensor([0.0000, 0.4000])
    """

    def __init__(
        self,
        num_classes: int,
        base: Optional[dict] = None,
        margins: Optional[Sequence[float]] = None,
        counts: Optional[Sequence[int]] = None,
        low: float = 0.05,
        high: float = 0.5,
        power: float = -0.25,
        rule: str = 'range',
    ) -> None:
        super().__init__()
        self.base: Any
        self.class_margins: Tensor
        check_number('ClassWise', 'num_classes', num_classes, 1, integer=True)
        self.base = MODELS.build(dict(type='ArcFace') if base is None else base)
        if not hasattr(self.base, 'with_margin'):
            raise TypeError(
                f'ClassWise: base is {type(self.base).__name__}, which has no method with_margin('
                'target_cosine, norms, margins) that takes one margin for each row. ArcFace, CosFace, '
                'AdaFace and CombinedMargin have it.'
            )
        if margins is not None and counts is not None:
            raise ValueError('ClassWise: margins and counts are both given, and margins follow from counts. Drop one.')
        self.low, self.high, self.power, self.rule = low, high, power, rule
        margins_from_counts(torch.ones(1), low, high, power, rule)  # complains now, not when the counts come
        self.register_buffer('class_margins', torch.full((num_classes,), float(high)))
        if margins is not None:
            self._check_length('margins', margins)
            self.base.eval()  # so that AdaFace's statistics do not move
            for value in margins:
                check_number('ClassWise', 'margins', value, 0)
                self.base.with_margin(torch.zeros(1), torch.ones(1), float(value))  # its own limits
            self.base.train()
            self.class_margins.copy_(torch.tensor(margins))
            self.high = max(margins)
        self.margin = self.high
        if counts is not None:
            self.set_counts(counts)

    def set_counts(self, counts: Union[Sequence[int], Tensor]) -> None:
        """Set the margins from the number of images of each class, C numbers."""
        self._check_length('counts', counts)
        self.class_margins.copy_(
            margins_from_counts(torch.as_tensor(counts), self.low, self.high, self.power, self.rule)
        )

    def margin_of(self, labels: Tensor) -> Tensor:
        """Return the margin of each label's class, ``(N,)``."""
        margins = self.class_margins[labels]
        return margins if self.margin == self.high else margins * (self.margin / self.high)

    def with_margin(self, target_cosine: Tensor, norms: Tensor, margin: Union[float, Tensor]) -> Tensor:
        """Return the base's target logits for these margins."""
        return self.base.with_margin(target_cosine, norms, margin)

    def log_scalars(self) -> dict[str, Tensor]:
        """Return the values that the base logs."""
        return log_scalars_of(self.base)

    def _check_length(self, name: str, values: Union[Sequence, Tensor]) -> None:
        if len(values) != len(self.class_margins):
            raise ValueError(
                f'ClassWise: expected {name} to have num_classes={len(self.class_margins)} numbers, got {len(values)}.'
            )

    def extra_repr(self) -> str:
        """Return the settings, for ``print(model)``."""
        return f'margin={self.margin}, low={self.low}, high={self.high}, power={self.power}, rule={self.rule!r}'
