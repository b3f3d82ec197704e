"""The outputs of a model without its adapters, which identify a graph exported without them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hybridcls.models.adapters.lora import lora_layers

from ..trained_model import TrainedModel
from .comparison import predictions_of
from .network_input import NetworkInput

__all__ = ['answers_without_adapters']


def answers_without_adapters(
    trained: TrainedModel, given: NetworkInput, batch: np.ndarray
) -> Mapping[str, Mapping[str, np.ndarray]]:
    """Return the outputs for images of a model with its LoRA adapters switched off, below ``'adapter'``.

    Args:
        trained (TrainedModel): With adapters that are not merged yet; as before when it returns.
        given (NetworkInput): What its pipeline gives it.
        batch (np.ndarray): ``(N, h, w, C)`` uint8, RGB.

    Returns:
        Mapping: Empty without adapters.
    """
    layers: list[Any] = list(lora_layers(trained.model).values())
    if not layers:
        return {}
    for layer in layers:
        layer.enable_adapters(False)
    try:
        return {'adapter': predictions_of(trained, given, batch)}
    finally:
        for layer in layers:
            layer.enable_adapters(True)
