"""Class balancing in a classification head: class weights, or logit adjustment."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

import torch
from torch import Tensor

from hybridcls.checks import check_choice, check_known_keys, check_number
from hybridcls.functional.imbalance import balanced_class_weights, effective_class_weights, log_priors

from .optional_buffers import ClassCounts

__all__ = ['ClassBalance', 'ClassWeight', 'LogitAdjustment']

ClassWeight = Union[str, Mapping[str, Any], Sequence[float], None]
LogitAdjustment = Union[float, Mapping[str, Any], None]


class ClassBalance(ClassCounts):
    r"""Weights of the classes in the loss, and the adjustment of the logits by the classes' frequencies.

    Both follow from the number of training images of each class, unless weights are given as numbers. A head where
    neither does has no counts in its checkpoint, and takes one that has some.

    Args:
        caller (str): Name of the head, used as the error prefix.
        num_classes (int): C.
        class_weight (str | Mapping | Sequence[float], optional): ``'balanced'``
            (:func:`hybridcls.functional.imbalance.balanced_class_weights`), ``'effective'`` or ``dict(type='effective',
            beta=0.9999)`` (:func:`hybridcls.functional.imbalance.effective_class_weights`), or C numbers >= 0.
            Defaults to None.
        logit_adjustment (float | Mapping, optional): :math:`\tau` > 0: :math:`\tau \log \pi_c` is added to the logits
            in the loss (:func:`hybridcls.functional.imbalance.log_priors`). ``dict(tau=1.0, post_hoc=True)`` instead
            takes it away from the logits of a model in eval mode, and leaves the loss as it is. Defaults to None.

    Raises:
        ValueError, TypeError: If a number is out of range; if weights from counts and an adjustment are both on, each
            of which alone makes up for the classes' frequencies: together they do it twice (Menon et al., eq. 11).
    """

    _weight: Any  # Tensors, or None
    _adjustment: Any

    def __init__(
        self, caller: str, num_classes: int, class_weight: ClassWeight = None, logit_adjustment: LogitAdjustment = None
    ) -> None:
        rule, beta = _read_rule(caller, class_weight)
        tau, post_hoc = _read_adjustment(caller, logit_adjustment)
        super().__init__(caller, num_classes, 'class_weight' if rule else 'logit_adjustment' if tau else '')
        self.rule, self.beta, self.tau, self.post_hoc = rule, beta, tau, post_hoc
        if rule and tau:
            raise ValueError(
                f'{caller}: class_weight={class_weight!r} and logit_adjustment={logit_adjustment!r} each make up for '
                'the frequencies of the classes, and together they do it twice. Drop one of the two.'
            )
        # Tensors from the start: an average of the model (EMA) pairs its buffers with the model's.
        weight = torch.ones(num_classes) if rule else _read_weights(caller, class_weight, num_classes)
        self.register_buffer('_weight', weight, persistent=False)
        self.register_buffer('_adjustment', torch.zeros(num_classes) if tau else None, persistent=False)

    def follow(self, counts: Tensor, num_images: int) -> str:
        """Compute the weights or the adjustment from the counts."""
        if self.rule:
            if self.rule == 'balanced':
                weight = balanced_class_weights(counts)
            else:
                weight = effective_class_weights(counts, self.beta)
            self._weight.copy_(weight)
            used = weight[counts > 0]
            return f'class_weight={self.rule!r} from {used.min():.3g} to {used.max():.3g}'
        adjustment = self.tau * log_priors(counts)
        self._adjustment.copy_(adjustment)
        what = 'logit_adjustment' + (', post-hoc,' if self.post_hoc else '')
        return f'{what} from {adjustment.min():.3g} to {adjustment.max():.3g}'

    @property
    def weight(self) -> Optional[Tensor]:
        """The weight of each class in the loss, float32 (C,); None: all are 1."""
        if self.rule:
            self.check_known()
        return self._weight

    @property
    def loss_adjustment(self) -> Optional[Tensor]:
        """The term added to the logits in the loss, float32 (C,); None: nothing."""
        return self._known_adjustment() if self.tau and not self.post_hoc else None

    @property
    def score_adjustment(self) -> Optional[Tensor]:
        """The term subtracted from the logits in eval mode, float32 (C,); None: nothing."""
        return self._known_adjustment() if self.post_hoc and not self.training else None

    def scored(self, logits: Tensor) -> Tensor:
        """Return the logits whose softmax is the score."""
        adjustment = self.score_adjustment
        return logits if adjustment is None else logits - adjustment

    def sample_weights(self, targets: Tensor) -> Optional[Tensor]:
        """Return the weight of each sample, (N,): that of its class, or the mean of a soft label's; None: all are 1."""
        weight = self.weight
        if weight is None:
            return None
        return targets.to(weight.dtype) @ weight if targets.is_floating_point() else weight[targets]

    def _known_adjustment(self) -> Optional[Tensor]:
        self.check_known()
        return self._adjustment

    def extra_repr(self) -> str:
        """Return the settings, for ``print(model)``."""
        return f'class_weight={self.rule or self._weight is not None}, logit_adjustment={self.tau}'


def _read_rule(caller: str, class_weight: ClassWeight) -> tuple[str, float]:
    """Return the rule that derives weights from counts ('' for none), and its beta."""
    beta = 0.9999
    if isinstance(class_weight, Mapping):
        check_known_keys(f'{caller}: class_weight', class_weight, ('type', 'beta'))
        beta = class_weight.get('beta', beta)
        check_number(f'{caller}: class_weight', 'beta', beta, 0, 1, high_open=True)
        class_weight = class_weight.get('type', 'effective')
        check_choice(caller, "class_weight's type with a beta", class_weight, ('effective',))
    if not isinstance(class_weight, str):
        return '', beta
    check_choice(caller, 'class_weight', class_weight, ('balanced', 'effective'))
    return class_weight, beta


def _read_weights(caller: str, class_weight: Any, num_classes: int) -> Optional[Tensor]:
    if class_weight is None:
        return None
    if len(class_weight) != num_classes:
        raise ValueError(
            f'{caller}: expected class_weight to have num_classes={num_classes} numbers, got {len(class_weight)}.'
        )
    for weight in class_weight:
        check_number(caller, 'class_weight', weight, 0)
    return torch.tensor(class_weight, dtype=torch.float32)


def _read_adjustment(caller: str, logit_adjustment: LogitAdjustment) -> tuple[float, bool]:
    """Return tau (0 for none), and whether the adjustment applies to scores instead of the loss."""
    if logit_adjustment is None:
        return 0.0, False
    chosen = logit_adjustment if isinstance(logit_adjustment, Mapping) else dict(tau=logit_adjustment)
    check_known_keys(f'{caller}: logit_adjustment', chosen, ('tau', 'post_hoc'))
    tau = chosen.get('tau', 1.0)
    check_number(caller, 'logit_adjustment', tau, 0, low_open=True, advice='None switches it off.')
    return tau, bool(chosen.get('post_hoc', False))
