"""Evidential classification: a head that predicts how much evidence it has."""

from collections.abc import Sequence
from typing import Optional

import torch
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from hybridcls.functional.evidential import dirichlet_uncertainty
from hybridcls.functional.logistic_regression import fit_logistic_regression
from hybridcls.registry import MODELS
from hybridcls.structures import read_targets, write_predictions

from ..modules.class_balance import ClassWeight, LogitAdjustment
from .classification_head import ClassificationHead
from .head import Features


@MODELS.register_module()
class EvidentialHead(ClassificationHead):
    r"""A linear layer whose outputs are evidence: a Dirichlet distribution :math:`Dir(e + 1)` over class probabilities.

    Scores are its mean :math:`\alpha / S`, never the softmax of the layer's outputs, and each prediction says how
    unsure it is, and of which kind the uncertainty is (:func:`hybridcls.functional.evidential.dirichlet_uncertainty`).

    ``forward`` returns :math:`\log \alpha`, whose softmax *is* :math:`\alpha / S`: whatever takes a classifier's
    outputs for logits (an exported model's user, a distillation) gets the right probabilities, and the exponential
    gives the Dirichlet distribution back.

    Each view of an image is one more sample with the image's label; in predictions the evidence of the views is
    averaged. Soft labels (mixup, cutmix) are taken where the samples have them.

    Args:
        num_classes (int): K. With one class all is certain: every loss and every entropy is 0.
        in_channels (int, optional): Width of the embedding. ``HybridClassifier`` fills it in.
        loss (dict, optional): Keys of :class:`hybridcls.models.losses.EvidentialLoss`, which also knows what evidence
            is. Defaults to None: its defaults.
        init_cfg (dict, optional): Defaults to weights from a normal distribution of standard deviation 0.01, bias 0.
        class_weight (str | dict | Sequence[float], optional): See :class:`ClassificationHead`. It multiplies the whole
            loss of a sample, that on misleading evidence too. Defaults to None.
        logit_adjustment (float | dict, optional): See :class:`ClassificationHead`. In the loss it adds to the data term
            what adjusting the logits :math:`\log \alpha` adds to their cross entropy: exactly that of the adjusted
            logits with ``form='log'``, with ``'digamma'`` an upper bound of its expectation
            (:func:`hybridcls.functional.imbalance.adjustment_term`); ``'sum_of_squares'`` is no cross entropy and is
            refused. Post-hoc it changes scores and ``forward``, not the uncertainties. Defaults to None.

    Raises:
        ValueError, TypeError: If a number is out of range, or a label is.

    Example:
        >>> import torch
        >>> head = MODELS.build(dict(type='EvidentialHead', num_classes=3, in_channels=8))
        >>> losses = head.loss((torch.ones(2, 8),), [DataSample().set_gt_label(label) for label in (0, 2)])
        >>> sorted(losses)
        ['accuracy_top-1', 'kl', 'kl_weight', 'loss']
        >>> sample = head.predict((torch.ones(2, 8),))[0]
        >>> torch.isclose(sample.aleatoric + sample.epistemic, sample.total).item(), 0 < sample.vacuity.item() <= 1
        (True, True)
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: Optional[int] = None,
        loss: Optional[dict] = None,
        init_cfg: Optional[dict] = dict(type='Normal', layer='Linear', std=0.01),  # noqa: B006
        class_weight: ClassWeight = None,
        logit_adjustment: LogitAdjustment = None,
    ) -> None:
        super().__init__(
            num_classes, in_channels, 0.0, init_cfg, class_weight=class_weight, logit_adjustment=logit_adjustment
        )
        self.loss_module = MODELS.build({'type': 'EvidentialLoss', **(loss or {})})
        if not hasattr(self.loss_module, 'terms'):
            raise TypeError(
                f'EvidentialHead: expected an EvidentialLoss, got loss={loss} ({type(self.loss_module).__name__}), '
                'no loss of evidence. Leave its type out, or train with LinearHead, which takes any loss of logits.'
            )
        if self.class_balance.tau and not self.class_balance.post_hoc and self.loss_module.form == 'sum_of_squares':
            raise ValueError(
                "EvidentialHead: logit_adjustment is defined for cross entropies, and form='sum_of_squares' is not "
                "one. Set form='digamma' or 'log', logit_adjustment=dict(post_hoc=True), or use class_weight."
            )
        self.fc = nn.Linear(self.in_channels, num_classes)

    def evidence(self, feats: Features) -> Tensor:
        """Return the evidence for each class, >= 0, shape (N, K), float32 also under autocast."""
        return self.loss_module.evidence(self.fc(self.pre_logits(feats)))

    def forward(self, feats: Features) -> Tensor:
        r"""Return :math:`\log \alpha`, >= 0, shape (N, K), float32: logits of the Dirichlet distribution's mean."""
        return self.class_balance.scored(self.evidence(feats).log1p())

    def loss(self, feats: Features, data_samples: Sequence[DataSample]) -> dict[str, Tensor]:
        """Return ``loss``; for the log ``kl`` and its weight ``kl_weight`` now; with hard labels ``accuracy_top-1``."""
        self.warn_of_bad_embeddings(self.pre_logits(feats), data_samples)
        evidence = self.evidence(feats)
        targets = read_targets(self._name, data_samples, evidence.device, self.num_classes)
        targets = targets.repeat(self.count_views(evidence, data_samples), *[1] * (targets.dim() - 1))
        data, kl, kl_weight = self.loss_module.terms(evidence, targets, **self._balance(targets))
        losses = {'loss': self.loss_module.total(data, kl, kl_weight), 'kl': kl.detach(), 'kl_weight': kl_weight}
        if not targets.is_floating_point():
            losses['accuracy_top-1'] = self.accuracy(evidence.detach().argmax(1), targets)
        return losses

    @torch.no_grad()
    def fit(self, embeddings: Tensor, labels: Tensor) -> str:
        """Set the layer to the minimum of the loss, with the full KL weight, starting from a logistic regression.

        Class weights and logit adjustment are part of the loss. Arguments and result are those of
        :meth:`LinearHead.fit`.
        """
        position = float(self.loss_module.annealing)

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            evidence = self.loss_module.evidence(outputs)
            return self.loss_module.total(
                *self.loss_module.terms(evidence, targets, position=position, **self._balance(targets))
            )

        fit = fit_logistic_regression(embeddings, labels, self.num_classes, loss=loss)
        self.fc.weight.copy_(fit.weight)
        self.fc.bias.copy_(fit.bias)
        return f'minimum of {type(self.loss_module).__name__} (C={fit.inverse_penalty:g})'

    def _balance(self, targets: Tensor) -> dict[str, Tensor]:
        """Return the arguments by which the loss makes up for the frequencies of the classes."""
        balance = dict(
            sample_weights=self.class_balance.sample_weights(targets), adjustment=self.class_balance.loss_adjustment
        )
        return {name: value for name, value in balance.items() if value is not None}

    def outputs(self, feats: Features) -> dict[str, Tensor]:
        r"""Return the outputs of other heads with classes, and the uncertainties, ``(N,)``.

        ``logits`` are :math:`\log \alpha`, ``probabilities`` are :math:`\alpha / S`.
        """
        evidence = self.evidence(feats)
        return dict(
            logits=self.class_balance.scored(evidence.log1p()),
            probabilities=self._scores(evidence),
            embedding=self.pre_logits(feats),
            **dirichlet_uncertainty(evidence)._asdict(),
        )

    def _scores(self, evidence: Tensor) -> Tensor:
        alpha = evidence + 1
        if self.class_balance.score_adjustment is not None:
            return self.class_balance.scored(alpha.log()).softmax(1)
        return alpha / alpha.sum(1, keepdim=True)

    def predict(
        self, feats: Features, data_samples: Optional[Sequence[Optional[DataSample]]] = None
    ) -> list[DataSample]:
        r"""Write ``pred_score`` :math:`\alpha / S` (K,), ``pred_label`` (1,), ``embedding`` (D,) and the uncertainties.

        These are ``vacuity`` in (0, 1] and, in nats, ``aleatoric``, ``epistemic`` and ``total``: scalars, float32,
        large where the uncertainty is large. Evidence and embeddings of several views of an image are averaged.
        """
        evidence = self.evidence(feats).detach()
        if data_samples is not None:
            num_views = self.count_views(evidence, data_samples)
            evidence = evidence.unflatten(0, (num_views, len(data_samples))).mean(0)
        scores, embeddings = self._scores(evidence), self.pre_logits(feats)
        return write_predictions(
            self._name,
            data_samples,
            embeddings,
            scores.repeat(len(embeddings) // len(scores), 1),
            dirichlet_uncertainty(evidence)._asdict(),
        )
