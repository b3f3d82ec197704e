"""A weight for the loss of positives, for rare classes."""

from collections.abc import Sequence
from typing import Any, Optional, Union

import torch
from torch import Tensor

from hybridcls.checks import check_choice, check_number
from hybridcls.functional.full_precision import to_float64

from .optional_buffers import ClassCounts

__all__ = ['PositiveWeight']


class PositiveWeight(ClassCounts):
    r"""The weight of each class's positives in a multi-label loss.

    ``'balanced'`` is :math:`(n - n_c) / n_c`, negatives by positives, as torch's ``BCEWithLogitsLoss`` advises: both
    weigh the same. A class without positives has the weight 1.

    Args:
        caller (str): Name of the head, used as the error prefix.
        num_classes (int): C.
        pos_weight (str | float | Sequence[float], optional): ``'balanced'``, a number >= 0 for all classes, or C of
            them. Defaults to None: 1.

    Raises:
        ValueError, TypeError: If it is none of these.
    """

    _weight: Any  # a Tensor, or None

    def __init__(
        self, caller: str, num_classes: int, pos_weight: Union[str, float, Sequence[float], None] = None
    ) -> None:
        super().__init__(caller, num_classes, 'pos_weight' if isinstance(pos_weight, str) else '')
        weight: Optional[Tensor] = None
        if isinstance(pos_weight, str):
            check_choice(caller, 'pos_weight', pos_weight, ('balanced',))
            weight = torch.ones(num_classes)
        elif pos_weight is not None:
            weight = one_for_each(caller, 'pos_weight', pos_weight, num_classes)
        self.register_buffer('_weight', weight, persistent=False)

    @property
    def weight(self) -> Optional[Tensor]:
        """The weights, float32 (C,); None: all are 1."""
        self.check_known()
        return self._weight

    def follow(self, counts: Tensor, num_images: int) -> str:
        """Compute the weights from the counts."""
        counts = to_float64(counts)
        weight = torch.where(counts > 0, (num_images - counts) / counts, 1.0)
        self._weight.copy_(weight)
        return f"pos_weight='balanced' from {weight.min():.3g} to {weight.max():.3g}"


def one_for_each(
    caller: str, name: str, value: Union[float, Sequence[float]], num_classes: int, high: float = float('inf')
) -> Tensor:
    """Return one number per class, float32 (C,), from one for all or from C numbers in [0, high].

    Raises:
        ValueError, TypeError: If there are not C, or one is out of range.
    """
    values = list(value) if isinstance(value, (list, tuple)) else [value] * num_classes
    if len(values) != num_classes:
        raise ValueError(f'{caller}: expected {name} to have num_classes={num_classes} numbers, got {len(values)}.')
    for number in values:
        check_number(caller, name, number, 0, high)
    return torch.tensor(values, dtype=torch.float32)
