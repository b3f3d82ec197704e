"""The loss of evidential classification, with its annealed penalty on evidence for other classes."""

import warnings
from typing import NamedTuple, Optional

import torch
from mmengine.logging import MessageHub
from torch import Tensor, nn

from hybridcls.checks import check_choice, check_number
from hybridcls.functional import (
    EVIDENCE_KINDS,
    EVIDENTIAL_FORMS,
    dirichlet_kl_to_uniform,
    evidence_from_logits,
    evidential_data_loss,
    misleading_evidence,
)
from hybridcls.functional.full_precision import to_float64
from hybridcls.functional.imbalance import adjustment_term
from hybridcls.registry import MODELS


class EvidentialTerms(NamedTuple):
    """The terms of the loss, each a scalar in float32 (or float64): ``data + kl_weight * kl`` is the total."""

    data: Tensor
    kl: Tensor
    kl_weight: Tensor


@MODELS.register_module()
class EvidentialLoss(nn.Module):
    r"""Train evidence for the target class, and penalize evidence for other classes.

    .. math::
        L = L_{data}(y, \alpha) + \lambda_t \min(1, K_0 / K)\; KL(Dir(\tilde\alpha) \,\|\, Dir(1, ..., 1)),
        \quad \alpha = e + 1, \quad \tilde\alpha = y + (1 - y) \alpha, \quad \lambda_t = w \min(1, t / T)

    `Evidential Deep Learning <https://arxiv.org/abs/1806.01768>`_, eq. 3 to 5 and the regulariser that follows them.
    The mean is taken over the batch. Everything from evidence on is float64: :mod:`hybridcls.functional` says why.

    **The weight of the KL.** At random outputs the KL grows with the number of classes K and the data term only with
    its logarithm (exponential evidence of standard normal outputs, form 'digamma'): 2.9 against 2.7 at K = 10, 34
    against 5.0 at 100, 343 against 7.4 at 1000. The paper's weight 1 was found at K = 10; with many classes it teaches
    the network to have no evidence at all. So the weight falls with K from :math:`K_0` = ``kl_reference_classes``
    = 10 on: it is 1 at K = 10 and below, 0.1 at 100, 0.01 at 1000, and the weighted KL of random outputs stays at 3.
    ``kl_reference_classes=None`` is the paper's weight at any K.

    **Annealing.** t is the Runner's epoch or iteration, from 0, read where mmengine keeps it (the message hub, which is
    in each checkpoint): a resumed run goes on where it was, gradient accumulation and a second pass of SAM count once,
    and validation losses have the weight of the training around them. Outside of a Runner there is no t unless
    :meth:`forward` is told: then the weight is the full one. (A Runner that has ended in the same process leaves its
    last t.)

    Args:
        form (str): The data term: ``'digamma'`` (eq. 4), ``'log'`` (eq. 3) or ``'sum_of_squares'`` (eq. 5). The last is
            the paper's choice; its gradient fades where there is evidence for a wrong class, so that it needs many more
            epochs (on the digits, 54 % after ten where eq. 4 has 99.2). Defaults to ``'digamma'``.
        evidence (str): ``'exp'``, ``'softplus'``, ``'relu'`` or ``'exp_over_10'``, see
            :func:`hybridcls.functional.evidence_from_logits`; with ``'relu'`` some samples can never be learned.
            Defaults to ``'exp'``.
        clamp (float): Exponents beyond +-clamp count as that in ``'exp'`` and ``'exp_over_10'``. Defaults to 10.
        kl_weight (float): w >= 0. Defaults to 1.
        annealing (int): T >= 0: the weight rises from 0 in so many epochs or iterations. 0: full at once.
            Defaults to 10.
        annealing_by (str): What T counts, ``'epoch'`` (as in the paper) or ``'iter'``. Defaults to ``'epoch'``.
        kl_reference_classes (int, optional): :math:`K_0`. Defaults to 10.
        loss_weight (float): A factor, >= 0. Defaults to 1.

    Shape:
        - logits: z, ``(N, K)``, any floating dtype.
        - targets: classes, int64 ``(N,)``, or probabilities, floating ``(N, K)``.
        - returns: scalar, float32 even under mixed precision (float64 for float64 logits).

    Raises:
        ValueError: If a number is out of range, a choice unknown, or shapes do not fit.
        TypeError: If classes are not integers.

    Example:
        >>> loss = MODELS.build(dict(type='EvidentialLoss'))
        >>> right, wrong = torch.tensor([[4., -9., -9.]]), torch.tensor([[-9., -9., 4.]])
        >>> loss(right, torch.tensor([0])) < 0.05 < 1 < loss(wrong, torch.tensor([0]), position=5)
        tensor(True)
    """

    def __init__(
        self,
        form: str = 'digamma',
        evidence: str = 'exp',
        clamp: float = 10.0,
        kl_weight: float = 1.0,
        annealing: int = 10,
        annealing_by: str = 'epoch',
        kl_reference_classes: Optional[int] = 10,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_choice('EvidentialLoss', 'form', form, EVIDENTIAL_FORMS)
        check_choice('EvidentialLoss', 'evidence', evidence, EVIDENCE_KINDS)
        check_number('EvidentialLoss', 'clamp', clamp, 0, low_open=True)
        check_number('EvidentialLoss', 'kl_weight', kl_weight, 0)
        check_number('EvidentialLoss', 'annealing', annealing, 0, integer=True)
        check_choice('EvidentialLoss', 'annealing_by', annealing_by, ('epoch', 'iter'))
        if kl_reference_classes is not None:
            check_number('EvidentialLoss', 'kl_reference_classes', kl_reference_classes, 1, integer=True)
        check_number('EvidentialLoss', 'loss_weight', loss_weight, 0)
        self.form = form
        self.evidence_kind = evidence
        self.clamp = clamp
        self.kl_weight = kl_weight
        self.annealing = annealing
        self.annealing_by = annealing_by
        self.kl_reference_classes = kl_reference_classes
        self.loss_weight = loss_weight
        self._warned = False

    def evidence(self, logits: Tensor) -> Tensor:
        """Return the evidence used by the loss, >= 0, same shape, float32 (or float64)."""
        return evidence_from_logits(logits, self.evidence_kind, self.clamp)

    def forward(self, logits: Tensor, targets: Tensor, position: Optional[float] = None) -> Tensor:
        """Return the loss; ``position``, the finished epochs or iterations, is the Runner's if None."""
        data, kl, kl_weight = self.terms(self.evidence(logits), targets, position)
        return self.total(data, kl, kl_weight)

    def terms(
        self,
        evidence: Tensor,
        targets: Tensor,
        position: Optional[float] = None,
        sample_weights: Optional[Tensor] = None,
        adjustment: Optional[Tensor] = None,
    ) -> EvidentialTerms:
        r"""Return the means of the data term and of the KL, and the present KL weight.

        Args:
            evidence (Tensor): e >= 0, shape (N, K).
            targets (Tensor): As for :meth:`forward`.
            position (float, optional): As for :meth:`forward`.
            sample_weights (Tensor, optional): A factor for both terms of each sample, shape (N,); the means divide by
                N. Defaults to None.
            adjustment (Tensor, optional): What is added to the logits :math:`\log \alpha` in the data term, shape
                (K,), see :func:`hybridcls.functional.imbalance.adjustment_term`. Defaults to None.
        """
        dtype = torch.float64 if evidence.dtype == torch.float64 else torch.float32
        data = evidential_data_loss(evidence, targets, self.form)
        kl = dirichlet_kl_to_uniform(misleading_evidence(evidence, targets))
        if adjustment is not None:
            log_probabilities = to_float64(evidence).log1p().log_softmax(1)
            data = data + adjustment_term(log_probabilities, targets.to(data.device), adjustment.to(data.device))
        if sample_weights is not None:
            weights = sample_weights.to(data.device)
            data, kl = data * weights, kl * weights
        data, kl = (one.mean().to(dtype).to(evidence.device) for one in (data, kl))
        return EvidentialTerms(data, kl, torch.full_like(kl, self.kl_weight_now(evidence.shape[1], position)).detach())

    def total(self, data: Tensor, kl: Tensor, kl_weight: Tensor) -> Tensor:
        """Return the total loss of the terms."""
        return (data + kl_weight * kl) * self.loss_weight

    def kl_weight_now(self, num_classes: int, position: Optional[float] = None) -> float:
        """Return the KL weight at a position (None: the Runner's) with so many classes."""
        if position is None:
            position = self._position_of_runner()
        annealed = 1.0 if position is None or self.annealing == 0 else min(1.0, position / self.annealing)
        share = 1.0 if self.kl_reference_classes is None else min(1.0, self.kl_reference_classes / num_classes)
        return self.kl_weight * annealed * share

    def _position_of_runner(self) -> Optional[float]:
        hub = MessageHub.get_current_instance()
        if self.annealing_by == 'epoch' and hub.get_info('max_epochs') == 1 and self.annealing and not self._warned:
            self._warned = True  # a train_cfg that counts iterations says max_epochs 1, and stays in epoch 0
            warnings.warn(
                f'EvidentialLoss: the penalty rises in annealing={self.annealing} epochs, and this training has one '
                "(or counts iterations): its weight stays 0. Set annealing_by='iter' and annealing to a number of "
                'iterations.',
                stacklevel=2,
            )
        return hub.get_info(self.annealing_by)

    def extra_repr(self) -> str:
        """Return the settings, for ``print(model)``."""
        return (
            f'form={self.form!r}, evidence={self.evidence_kind!r}, clamp={self.clamp}, kl_weight={self.kl_weight}, '
            f'annealing={self.annealing}, annealing_by={self.annealing_by!r}, '
            f'kl_reference_classes={self.kl_reference_classes}'
        )
