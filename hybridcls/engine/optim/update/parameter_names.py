"""List the parameters of a training's optimizers, with their names in the model."""

import re
from collections.abc import Sequence
from typing import Any, Optional

import torch
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapperDict
from torch import nn

__all__ = ['check_trainable', 'parameters_of', 'named_owners', 'wrappers_by_name']


def wrappers_by_name(optim_wrapper: Any) -> dict[str, Any]:
    """Return the optimizer wrappers of a training, each under its name; a single one under ``''``."""
    return dict(optim_wrapper.items()) if isinstance(optim_wrapper, OptimWrapperDict) else {'': optim_wrapper}


def parameters_of(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Return all parameters by position: in the order of the groups, as in torch's state dicts."""
    return [param for group in optimizer.param_groups for param in group['params']]


def check_trainable(caller: str, params: Sequence[nn.Parameter]) -> None:
    """Raise a ValueError if no parameter needs a gradient."""
    if not any(param.requires_grad for param in params):
        raise ValueError(
            f'{caller}: expected a parameter that needs a gradient, got {len(params)} in the optimizer of which none '
            'does. Unfreeze a part of the model (requires_grad, frozen_stages, lora_rank).'
        )


def named_owners(
    params: Sequence[nn.Parameter], model: Optional[nn.Module]
) -> tuple[list[str], list[Optional[nn.Module]]]:
    """Return names and owners of parameters; the first ones of a shared parameter.

    Args:
        params (Sequence[nn.Parameter]): Parameters by position.
        model (nn.Module, optional): The model, wrapped or not.

    Returns:
        tuple: Names without what DDP, FSDP and torch.compile put into them (``''`` for what is not found), and the
        modules that hold the parameters (None for what is not found).

    Example:
        >>> named_owners([torch.nn.Parameter(torch.ones(1))], torch.nn.Linear(1, 1))
        ([''], [None])
    """
    found: dict[int, tuple[str, nn.Module]] = {}
    for path, module in () if model is None else model.named_modules():
        for name, param in module.named_parameters(recurse=False):
            found.setdefault(id(param), (f'{path}.{name}' if path else name, module))
    places = [found.get(id(param)) for param in params]
    prefix = 'module.' if model is not None and is_model_wrapper(model) else ''
    names = ['' if place is None else _without_wrappers(place[0], prefix) for place in places]
    return names, [None if place is None else place[1] for place in places]


def _without_wrappers(name: str, prefix: str) -> str:
    # FSDP's, torch.compile's and activation checkpointing's stand anywhere.
    name = re.sub(r'(?:^|(?<=\.))(?:_fsdp_wrapped_module|_orig_mod|_checkpoint_wrapped_module)\.', '', name)
    return name.removeprefix(prefix)
