"""Merge low-rank updates into the weights, for export, and unmerge them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .lora import lora_layers

__all__ = ['MergedLoRA', 'merge_lora']


class MergedLoRA:
    """The handle of :func:`merge_lora`, which can unmerge.

    Args:
        merged (list[tuple[nn.Module, str, nn.Module, Tensor]]): Parent, name, adapted layer and original weight.
    """

    def __init__(self, merged: list[tuple[nn.Module, str, Any, Tensor]]) -> None:
        self._merged = merged

    def __len__(self) -> int:
        return len(self._merged)

    def undo(self) -> None:
        """Restore the adapters; the weights are the same as before, to the last bit."""
        for parent, name, layer, weight in self._merged:
            layer.get_base_layer().weight.data.copy_(weight)
            layer.merged_adapters = []
            setattr(parent, name, layer)
        self._merged = []


@torch.no_grad()
def merge_lora(model: nn.Module) -> MergedLoRA:
    r"""Replace each adapted layer of ``model`` by a plain one that computes the same, in place.

    The sum :math:`W + \frac{\alpha}{r} B A` is taken in float32 at least, whatever the dtypes of weights and adapters,
    and rounded once, to the dtype of the weight: in bfloat16 each merged weight is off by at most :math:`2^{-8}` of its
    size (float16: :math:`2^{-11}`), and an update of less than that is lost. No merge into such weights can be
    nearer; a model in float32 merges to the last few bits. The model has no trace of PEFT afterwards: its state dict
    loads into timm.

    Args:
        model (nn.Module): With adapted layers at any depth; without any, nothing is done.

    Returns:
        MergedLoRA: ``undo()`` takes the updates out again.

    Raises:
        ValueError: If an update is not finite; nothing is changed then.
    """
    adapted: dict[str, Any] = lora_layers(model)  # PEFT's layers
    broken = [
        name for name, layer in adapted.items() if not all(param.isfinite().all() for param in layer.parameters())
    ]
    if broken:
        raise ValueError(f'merge_lora: weights or adapters of {broken[0]} are not finite.')
    merged = []
    for name, layer in adapted.items():
        parent = model.get_submodule(name.rpartition('.')[0])
        base = layer.get_base_layer()
        original = base.weight.detach().clone()
        with _at_least_float32(layer, keep=base.weight):
            layer.merge()
        setattr(parent, name.rpartition('.')[2], base)
        merged.append((parent, name.rpartition('.')[2], layer, original))
    return MergedLoRA(merged)


@contextmanager
def _at_least_float32(layer: nn.Module, keep: nn.Parameter) -> Iterator[None]:
    """Let a layer compute in float32, and give all but ``keep`` their own bits back; that is rounded to its dtype."""
    before = [(param, param.data) for param in layer.parameters() if param.dtype in (torch.float16, torch.bfloat16)]
    for param, data in before:
        param.data = data.float()
    try:
        yield
    finally:
        for param, data in before:
            param.data = param.data.to(data.dtype) if param is keep else data
