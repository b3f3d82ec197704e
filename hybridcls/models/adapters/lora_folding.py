"""Fold low-rank updates into the weights, for export, and take them out again."""
from typing import Any

import torch
from torch import Tensor, nn

from .lora import lora_layers

__all__ = ['FoldedLoRA', 'fold_lora']


class FoldedLoRA:
    """What :func:`fold_lora` did, and the way back.

    Args:
        places (list[tuple[nn.Module, str, nn.Module, Tensor]]): Parent, name, adapted layer and original weight.
    """

    def __init__(self, places: list[tuple[nn.Module, str, Any, Tensor]]) -> None:
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def undo(self) -> None:
        """Put the adapters back; the weights are those of before, to the last bit."""
        for parent, name, layer, weight in self._places:
            layer.get_base_layer().weight.data.copy_(weight)
            layer.merged_adapters = []
            setattr(parent, name, layer)
        self._places = []


@torch.no_grad()
def fold_lora(model: nn.Module) -> FoldedLoRA:
    """Replace each adapted layer of ``model`` by a plain one that computes the same, in place.

    The sum :math:`W + \\frac{\\alpha}{r} B A` is taken in float32 at least, whatever the weights' dtype. The model has
    no trace of PEFT afterwards: its state dict loads into timm.

    Args:
        model (nn.Module): With adapted layers at any depth; without any, nothing is done.

    Returns:
        FoldedLoRA: ``undo()`` takes the updates out again.

    Raises:
        ValueError: If an update is not finite; nothing is changed then.
    """
    adapted: dict[str, Any] = lora_layers(model)  # PEFT's layers
    broken = [name for name, layer in adapted.items()
              if not all(param.isfinite().all() for param in layer.parameters())]
    if broken:
        raise ValueError(f'fold_lora: weights or adapters of {broken[0]} are not finite.')
    places = []
    for name, layer in adapted.items():
        parent = model.get_submodule(name.rpartition('.')[0])
        base = layer.get_base_layer()
        original, dtype = base.weight.detach().clone(), base.weight.dtype
        if dtype not in (torch.float32, torch.float64):
            layer.float()
        layer.merge()
        if base.weight.dtype != dtype:
            layer.to(dtype)
        setattr(parent, name.rpartition('.')[2], base)
        places.append((parent, name.rpartition('.')[2], layer, original))
    return FoldedLoRA(places)
