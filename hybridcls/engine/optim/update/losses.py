"""Read the losses from a model's output, and compute the total loss of its training step."""

from typing import Any, cast

import torch
from torch import Tensor, nn

__all__ = ['check_same_loss', 'losses_of', 'total_loss']


def losses_of(output: Any) -> dict[str, Tensor]:
    """Return the named losses in a model's output, each a scalar tensor."""
    if isinstance(output, Tensor):
        return {'loss': output}
    if not isinstance(output, dict):
        return {}
    found: dict[str, Tensor] = {}
    for name, value in output.items():
        parts = [part for part in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(part, Tensor)]
        if parts:
            found[name] = cast(Tensor, sum(part.detach().float().mean() for part in parts))
    return found


def total_loss(model: nn.Module, output: Any) -> Tensor:
    """Return the total loss of the model's train step, by ``parse_losses`` of the model or of the wrapped one.

    Raises:
        TypeError: If there is no way to a loss from the output.
    """
    if isinstance(output, Tensor) and output.numel() == 1:
        return output
    parse = getattr(model, 'parse_losses', None) or getattr(getattr(model, 'module', None), 'parse_losses', None)
    if parse is not None and isinstance(output, dict):
        return parse(output)[0]
    if isinstance(output, dict) and any('loss' in name for name in output):
        return sum(value.mean() for name, value in output.items() if 'loss' in name)
    raise TypeError(
        f'A second pass (SAM): expected {type(model).__name__} to return a dict of losses, or the loss itself, got a '
        f'{type(output).__name__}. Let its forward return one, and give the model parse_losses, as '
        'mmengine.model.BaseModel has.'
    )


def check_same_loss(caller: str, model: nn.Module, output: Any, loss: Tensor) -> None:
    """Raise unless the loss of a second pass will be the same function as ``loss``, that of the first pass.

    Args:
        caller (str): Name that errors start with.
        model (nn.Module): The model.
        output (Any): What it returned in the first pass.
        loss (Tensor): What ``update_params`` was given.

    Raises:
        ValueError: If the output amounts to another loss.
    """
    found = total_loss(model, output).detach()
    if not torch.allclose(found.float(), loss.detach().float(), rtol=1e-3, atol=1e-6, equal_nan=True):
        raise ValueError(
            f'{caller}: expected update_params to get the loss {float(found):g}, which the losses that '
            f'{type(model).__name__} returned add up to, got {float(loss.detach()):g}: a second pass would use '
            'another loss. Do all weighting of losses in forward or parse_losses.'
        )
