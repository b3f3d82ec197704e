"""Fidelity cases of cross entropies, the asymmetric loss, distillation and class imbalance."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hybridcls.functional.distillation import cosine_feature_loss, distance_relation_loss, kd_kl_loss
from hybridcls.functional.imbalance import effective_class_weights
from hybridcls.registry import MODELS

from .fidelity_case import Expected, FidelityCase, Found, Official, Place, gradient_of
from .fixed_inputs import LABELS, set_parameters, waves
from .margin_cases import CLASS_COUNTS, samples_of

__all__ = [
    'ASYMMETRIC', 'BETA', 'CASES', 'LONG_TAIL', 'LONG_TAILED_COUNTS', 'TARGETS', 'TEMPERATURES', 'old_classifier',
    'student', 'teacher',
]  # fmt: skip

TARGETS = (waves(5, 7, phase=2.0) > 0.6).astype(np.float64)
ASYMMETRIC = [
    dict(gamma_neg=4, gamma_pos=1, clip=0.05), dict(gamma_neg=4, gamma_pos=0, clip=0.05),
    dict(gamma_neg=2, gamma_pos=1, clip=0.0),
]  # fmt: skip
TEMPERATURES = (1.0, 2.0, 4.0)
BETA, LONG_TAIL = 0.999, 0.01
LONG_TAILED_COUNTS = tuple(int(5000 * LONG_TAIL ** (number / 9.0)) for number in range(10))
"""Images of each class of CIFAR-10-LT, where the last class has 1 % of those of the first."""


def student(width: int = 7) -> np.ndarray:
    """Return the outputs of a student (6, width)."""
    return 2 * waves(6, width, phase=0.2)


def teacher(width: int = 7) -> np.ndarray:
    """Return the outputs of a teacher (6, width)."""
    return 2 * waves(6, width, phase=1.2)


def _asymmetric(place: Place) -> Found:
    numbers: dict[str, Tensor] = {}
    for keys in ASYMMETRIC:
        for focal_gradient in (False, True):
            module = MODELS.build(dict(type='AsymmetricLoss', reduction='sum', focal_gradient=focal_gradient, **keys))
            logits = place.tensor(3 * waves(5, 7, phase=0.1), gradient=True)
            loss = module(logits, place.tensor(TARGETS))
            loss.backward()
            name = f'{list(keys.values())} {focal_gradient}'
            numbers[f'{name} loss'], numbers[f'{name} gradient'] = loss.detach(), gradient_of(logits)
    return numbers


def _of_student(loss_of: Any) -> Any:
    def found(place: Place) -> Found:
        logits = place.tensor(student(), gradient=True)
        loss = loss_of(logits, place.tensor(teacher()))
        loss.backward()
        return dict(loss=loss, gradient=gradient_of(logits))

    return found


def _distilled(place: Place) -> Found:
    numbers: dict[str, Tensor] = {}
    for temperature in TEMPERATURES:
        found = _of_student(lambda ours, theirs, t=temperature: kd_kl_loss(ours, theirs, t))(place)
        numbers.update({f'{temperature} {name}': value for name, value in found.items()})
    return numbers


def _relations(place: Place) -> Found:
    share = (len(student()) - 1) / len(student())
    return _of_student(lambda ours, theirs: share * distance_relation_loss(ours, theirs))(place)


def _cosines_by_hand() -> Expected:
    ours, theirs = student(), teacher()
    x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (ours, theirs))
    cosines = (x * y).sum(1, keepdims=True)
    gradient = -(y - cosines * x) / np.linalg.norm(ours, axis=1, keepdims=True) / len(ours)
    return dict(loss=1 - cosines.mean(), gradient=gradient)


def old_classifier() -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of an old model's four classes, and the old number of each present class; the last is new."""
    return waves(4, 7, phase=0.7), np.array([2, 0, 3, -1])


def _backward_compatible(place: Place) -> Found:
    weight, old_classes = old_classifier()
    embeddings = place.tensor(student(9), gradient=True)  # wider than the old ones
    loss = MODELS.build(dict(type='BackwardCompatLoss', influence_mean='known'))
    old = place.tensor(weight)
    labels = place.tensor(np.array(LABELS) % 4)
    found = loss(embeddings, labels, lambda rows: rows @ old.T, place.tensor(old_classes), width=7)['loss_influence']
    found.backward()
    return dict(loss=found.detach(), gradient=gradient_of(embeddings))


def _of_head(labels: Any, **keys: Any) -> Any:
    def found(place: Place) -> Found:
        head = MODELS.build(dict(in_channels=5, **keys))
        if 'logit_adjustment' in keys:
            head.set_class_counts(CLASS_COUNTS, sum(CLASS_COUNTS))
        set_parameters(head.to(place.device, place.dtype))
        feats = place.tensor(waves(6, 5, phase=1.0), gradient=True)
        samples = samples_of(LABELS)
        if labels is not None:
            samples = [one.set_gt_label(torch.from_numpy(row).nonzero().flatten())
                       for one, row in zip(samples, labels, strict=True)]  # fmt: skip
        loss = head.loss((feats,), samples)['loss']
        loss.backward()
        return dict(loss=loss, gradient=gradient_of(feats))

    return found


def _linear(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits of the head's layer, and its weight."""
    weight, bias = waves(classes, 5), waves(classes, start=10)
    return waves(6, 5, phase=1.0) @ weight.T + bias, weight


def _cross_entropy_by_hand() -> Expected:
    logits, weight = _linear(4)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    loss = -np.log(shares[np.arange(6), LABELS]).mean()
    return dict(loss=loss, gradient=(shares - np.eye(4)[LABELS]) @ weight / 6)


_MULTI = (waves(6, 4, phase=2.0) > 0.4).astype(np.float64)


def _binary_by_hand() -> Expected:
    logits, weight = _linear(4)
    p = 1 / (1 + np.exp(-logits))
    loss = -(_MULTI * np.log(p) + (1 - _MULTI) * np.log(1 - p)).sum() / 6
    return dict(loss=loss, gradient=(p - _MULTI) @ weight / 6)


def _effective(place: Place) -> Found:
    return dict(weights=effective_class_weights(torch.tensor(LONG_TAILED_COUNTS, device=place.device), BETA))


CASES = [
    FidelityCase(
        'AsymmetricLoss', ('AsymmetricLoss',), 'loss', 'ASL, arXiv 2009.14119',
        Official('Alibaba-MIIL/ASL', '8c9e0bd8', 'src/loss_functions/losses.py'),
        "3 settings of gammas and clip, reduction='sum', gradient of the focus or not: AsymmetricLoss",
        _asymmetric,
        deviates="the code's training gives the focus no gradient: focal_gradient=False. It "
        'clamps probabilities at 1e-8, where a positive that is far off has no gradient; here are logarithms of logits',
    ),
    FidelityCase(
        'Distillation', ('kd_kl_loss',), 'loss', 'Knowledge distillation, arXiv 1503.02531',
        Official('HobbitLong/RepDistiller', 'b84f547c', 'distiller_zoo/KD.py'), 'temperature 1, 2, 4: DistillKL',
        _distilled,
    ),
    FidelityCase(
        'Distances of a batch', ('distance_relation_loss',), 'loss', 'RKD, arXiv 1904.05068',
        Official('HobbitLong/RepDistiller', 'b84f547c', 'distiller_zoo/RKD.py'), 'RKDLoss(w_d=1, w_a=0), 6 embeddings',
        _relations,
        deviates='the codes average over i = j, too: (N - 1) / N times this one, which the case multiplies with',
    ),
    FidelityCase(
        'Directions of embeddings', ('cosine_feature_loss',), 'loss', 'no paper', '1 - cosine in float64, by hand',
        '6 embeddings', _of_student(cosine_feature_loss), _cosines_by_hand,
    ),
    FidelityCase(
        'Backward-compatible training', ('BackwardCompatLoss', 'influence_loss'), 'loss',
        'Backward-compatible representations, arXiv 2003.11942',
        Official('YantaoShen/openBCT', '69e798c2', 'main.py'),
        "influence_mean='known', wider embeddings, a new class: the term of its training", _backward_compatible,
        deviates='images of classes that the old model does not have count in the mean, with a loss of 0; the code '
        "leaves them out: influence_mean='known'",
    ),
    FidelityCase(
        'LinearHead', ('LinearHead',), 'head', 'no paper', 'cross entropy in float64, by hand', 'one linear layer',
        _of_head(None, type='LinearHead', num_classes=4), lambda: _cross_entropy_by_hand(),
    ),
    FidelityCase(
        'Logit adjustment', ('LinearHead', 'log_priors'), 'head', 'Logit adjustment, arXiv 2007.07314',
        Official('google-research/google-research', 'ccc94ce3', 'logit_adjustment/utils.py'),
        'logit_adjustment=1.0: build_loss_fn(True, base_probs, tau=1.0)',
        _of_head(None, type='LinearHead', num_classes=4, logit_adjustment=1.0),
        tolerance=1e-6,  # the code computes in float32
        deviates='the code adds 1e-12 to the shares before their logarithm (no switch)',
    ),
    FidelityCase(
        'MultiLabelHead', ('MultiLabelHead',), 'head', 'no paper', 'binary cross entropy in float64, by hand',
        'summed over classes, averaged over images',
        _of_head(_MULTI, type='MultiLabelHead', num_classes=4), _binary_by_hand,
    ),
    FidelityCase(
        'Effective numbers', ('effective_class_weights',), 'function', 'Class-balanced loss, arXiv 1901.05555',
        Official('richardaecn/class-balanced-loss', '1d785720', 'src/cifar_main.py'),
        f'beta={BETA}, ten classes with 5000 to 50 images: the weights of its training', _effective,
    ),
]  # fmt: skip
