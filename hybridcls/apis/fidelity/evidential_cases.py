"""Fidelity cases of evidential classification: the losses of Sensoy et al., and the Dirichlet uncertainties."""

import numpy as np
import torch
from torch import Tensor

from hybridcls.functional.evidential import dirichlet_uncertainty
from hybridcls.registry import MODELS

from .fidelity_case import FidelityCase, Found, Official, Place, gradient_of
from .fixed_inputs import set_parameters, waves
from .margin_cases import samples_of

__all__ = ['ANNEALING', 'CASES', 'EPOCH', 'EVIDENCES', 'EVIDENTIAL_LABELS', 'FORMS', 'NUM_CLASSES', 'logits']

NUM_CLASSES = 12
ANNEALING = 10
EPOCH = 5  # half of it is the same number in float32
EVIDENTIAL_LABELS = np.array([0, 3, 11, 7, 3])
FORMS = ('sum_of_squares', 'log', 'digamma')
EVIDENCES = ('relu', 'exp', 'softplus')

_PAPER = 'Evidential deep learning, arXiv 1806.01768'
_CODE = Official('dougbrion/pytorch-classification-uncertainty', 'bed225bd', 'losses.py')
_DEVIATES = (
    "the weight of the KL falls with more than 10 classes: kl_reference_classes=None is the paper's. The defaults are "
    "form='digamma' and evidence='exp'; the paper's choice is form='sum_of_squares', evidence='relu'"
)


def logits() -> np.ndarray:
    """Return the outputs of a network (5, 12)."""
    return 3 * waves(5, NUM_CLASSES, phase=0.5)


def _losses(place: Place) -> Found:
    labels = torch.from_numpy(EVIDENTIAL_LABELS).to(place.device)
    numbers: dict[str, Tensor] = {}
    for form in FORMS:
        for evidence in EVIDENCES:
            module = MODELS.build(
                dict(
                    type='EvidentialLoss', form=form, evidence=evidence, annealing=ANNEALING, kl_reference_classes=None
                )
            )
            outputs = place.tensor(logits(), gradient=True)
            loss = module(outputs, labels, position=EPOCH)
            loss.backward()
            numbers[f'{form} {evidence} loss'] = loss.detach()
            numbers[f'{form} {evidence} gradient'] = gradient_of(outputs)
    return numbers


def _head(place: Place) -> Found:
    head = MODELS.build(
        dict(
            type='EvidentialHead', num_classes=NUM_CLASSES, in_channels=4,
            loss=dict(form='sum_of_squares', evidence='relu', annealing=0, kl_reference_classes=None),
        )
    )  # fmt: skip
    set_parameters(head.to(place.device, place.dtype))
    feats = place.tensor(waves(5, 4, phase=1.0), gradient=True)
    loss = head.loss((feats,), samples_of(EVIDENTIAL_LABELS))['loss']
    loss.backward()
    scores = torch.stack([sample.pred_score for sample in head.predict((feats.detach(),))])
    return dict(loss=loss, gradient=gradient_of(feats), scores=scores)


def _uncertainty(place: Place) -> Found:
    found = dirichlet_uncertainty(place.tensor(np.exp(logits())))
    return dict(zip(found._fields, found, strict=True))


CASES = [
    FidelityCase(
        'EvidentialLoss', ('EvidentialLoss',), 'loss', _PAPER, _CODE,
        f'3 forms x 3 kinds of evidence, {NUM_CLASSES} classes, annealing={ANNEALING}, epoch {EPOCH}, '
        'kl_reference_classes=None', _losses, deviates=_DEVIATES,
        tolerance=1e-6,  # a constant of the code is float32
    ),
    FidelityCase(
        'EvidentialHead', ('EvidentialHead',), 'head', _PAPER, _CODE,
        "form='sum_of_squares', evidence='relu', annealing=0, kl_reference_classes=None: edl_mse_loss after a linear "
        'layer', _head, deviates=_DEVIATES, tolerance=1e-6,
    ),
    FidelityCase(
        'Dirichlet uncertainties', ('EvidentialHead', 'dirichlet_uncertainty'), 'function',
        'Prior networks, arXiv 1802.10501',
        Official('KaosEngineer/PriorNetworks', 'd6f6ffb6', 'prior_networks/priornet/dpn.py'),
        'vacuity, expected entropy, mutual information: dirichlet_prior_network_uncertainty(epsilon=0)', _uncertainty,
        deviates="its EPKL, (K - 1) / S, is K / (K - 1) times smaller than Sensoy's vacuity, K / S (no switch)",
    ),
]  # fmt: skip
