"""Per-class probability thresholds of a multi-label prediction."""

from collections.abc import Mapping, Sequence
from typing import Any, Union

import torch
from torch import Tensor

from hybridcls.checks import check_choice, check_known_keys, check_number
from hybridcls.functional.multilabel import f1_thresholds, precision_thresholds

from .optional_buffers import OptionalBuffers
from .positive_weight import one_for_each

__all__ = ['ClassThresholds']


class ClassThresholds(OptionalBuffers):
    """A threshold for each class: given, or fitted on the validation data.

    Fitted ones start at 0.5. ``ThresholdsHook`` (in every run) fits them after each validation of a training, and the
    checkpoint has them: the one that was written before the validation is written again. A class without positives in
    the validation data keeps the threshold that it has.

    Args:
        caller (str): Name of the head, used as the error prefix.
        num_classes (int): C.
        thresholds (float | Sequence[float] | str | Mapping, optional): A number in [0, 1] for all classes or C of them,
            which hold whatever a checkpoint says; ``'f1'``: fitted, with the largest F1 of each class;
            ``dict(precision=0.9)``: fitted, with the largest recall at such a precision. Defaults to None: those of the
            checkpoint, else 0.5.

    Attributes:
        values (Tensor): A class is predicted where its score is >= this; float32, shape (C,).
        rule (str): ``'f1'``, ``'precision'``, or '' where nothing is fitted.

    Raises:
        ValueError, TypeError: If it is none of these, or a number is out of range.
    """

    values: Tensor

    def __init__(
        self,
        caller: str,
        num_classes: int,
        thresholds: Union[float, Sequence[float], str, Mapping[str, Any], None] = None,
    ) -> None:
        super().__init__()
        self.caller, self.rule, self.precision = caller, '', 0.0
        if isinstance(thresholds, Mapping):
            check_known_keys(f'{caller}: thresholds', thresholds, ('precision',))
            self.rule, self.precision = 'precision', thresholds.get('precision', 0.9)
            check_number(f'{caller}: thresholds', 'precision', self.precision, 0, 1, low_open=True)
        elif isinstance(thresholds, str):
            check_choice(caller, 'thresholds', thresholds, ('f1',))
            self.rule = thresholds
        is_given = thresholds is not None and not self.rule
        start: Any = thresholds if is_given else 0.5
        self.keep('values', one_for_each(caller, 'thresholds', start, num_classes, 1.0), in_checkpoint=not is_given)

    def fit(self, scores: Tensor, targets: Tensor, names: Sequence[str]) -> str:
        """Choose thresholds by scores (N, C) and targets (N, C) of a validation; return a description of them."""
        if self.rule == 'f1':
            choice = f1_thresholds(scores, targets)
        else:
            choice = precision_thresholds(scores, targets, self.precision)
        fitted = ~choice.thresholds.isnan()
        if not fitted.any():
            return 'no class has a positive in the validation data, so that all thresholds stay'
        self.values.copy_(torch.where(fitted, choice.thresholds, self.values.cpu()))
        below = [names[i] for i in (fitted & (choice.precision < self.precision)).nonzero().flatten().tolist()]
        kept = [names[i] for i in (~fitted).nonzero().flatten().tolist()]
        means = [f'{100 * values[fitted].mean():.2f}' for values in (choice.f1, choice.precision, choice.recall)]
        parts = [
            f'thresholds from {self.values.min():.3g} to {self.values.max():.3g}, chosen by {self.rule}; on the images '
            f'they were chosen from the mean of F1 is {means[0]} %, of precision {means[1]} %, of recall {means[2]} %'
        ]
        parts += [f'precision {self.precision} is not reached by {", ".join(below)}'] if below else []
        parts += [f'without positives, so that their thresholds stay: {", ".join(kept)}'] if kept else []
        return '; '.join(parts)
