"""Calibrate the probabilities of a classifier: fit a scaling on held-out images, and apply it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .isotonic_scaling import apply_isotonic, fit_isotonic
from .log_scores import log_scores
from .temperature_scaling import fit_temperature
from .vector_scaling import fit_vector

__all__ = ['SCALINGS', 'apply_scaling', 'fit_scaling']

SCALINGS = ('temperature', 'vector', 'isotonic', 'none')
"""One number; two numbers a class; a step function a class; the model's own probabilities."""


def fit_scaling(kind: str, scores: Tensor, labels: Tensor) -> dict[str, Any]:
    """Fit one of ``SCALINGS``.

    Args:
        kind (str): Which.
        scores (Tensor): Probabilities of held-out images, shape (N, C).
        labels (Tensor): int64, shape (N,).

    Returns:
        dict: ``kind`` and its numbers, in the types of JSON.

    Raises:
        ValueError: If there is no best one (:func:`fit_temperature`).

    Example:
        >>> scores = torch.tensor([[0.99, 0.01]]).repeat(4, 1)
        >>> scaling = fit_scaling('temperature', scores, torch.tensor([0, 0, 0, 1]))
        >>> apply_scaling(scaling, scores[:1])
        tensor([[0.7500, 0.2500]])
    """
    if kind == 'temperature':
        return dict(kind=kind, temperature=fit_temperature(log_scores(scores), labels))
    if kind == 'vector':
        weight, bias = fit_vector(log_scores(scores), labels)
        return dict(kind=kind, weight=weight.tolist(), bias=bias.tolist())
    if kind == 'isotonic':
        functions = [list(function) for function in fit_isotonic(scores, labels)]
        return dict(kind=kind, functions=functions, own_share=1 / (len(labels) + 2))
    return dict(kind='none')


def apply_scaling(scaling: Mapping[str, Any], scores: Tensor) -> Tensor:
    """Return calibrated probabilities, float32, shape (B, C), on the device of ``scores``; computed in float64.

    Args:
        scaling (Mapping): Of :func:`fit_scaling`.
        scores (Tensor): Probabilities, shape (B, C).
    """
    kind = scaling['kind']
    if kind == 'none':
        return scores.float()
    given = scores.cpu()  # not every device has float64
    if kind == 'isotonic':
        calibrated = apply_isotonic(given, scaling['functions'], scaling['own_share'])
    elif kind == 'vector':
        weight, bias = (torch.tensor(scaling[name], dtype=torch.float64) for name in ('weight', 'bias'))
        calibrated = (log_scores(given) * weight + bias).softmax(1)
    else:
        calibrated = (log_scores(given) / scaling['temperature']).softmax(1)
    return calibrated.float().to(scores.device)
