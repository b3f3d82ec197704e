"""Keep the original names of weights in the state dicts of adapted models."""

import re
from functools import partial
from typing import Any

import torch
from torch import nn

__all__ = ['keep_plain_names', 'plain_name', 'trained_names']

_BASE = '.base_layer.'
_PARTS = re.compile(r'\.(lora_A|lora_B|lora_magnitude_vector)\.default(?=\.|$)')


def plain_name(name: str) -> str:
    """Return the original name of an adapted model's parameter.

    Example:
        >>> plain_name('blocks.0.attn.qkv.base_layer.weight'), plain_name('blocks.0.attn.qkv.lora_A.default.weight')
        ('blocks.0.attn.qkv.weight', 'blocks.0.attn.qkv.lora_A.weight')
    """
    return _PARTS.sub(r'.\1', name.replace(_BASE, '.'))


def keep_plain_names(model: nn.Module, only_trained: bool = False) -> None:
    """Make ``state_dict`` and ``load_state_dict`` of an adapted model, or of its parent, use the original names.

    So the weights of phase 1 go over to a phase 2 with adapters by name, a checkpoint with adapters tells the same
    names as one without, and the adapters' own are those of PEFT. Names of PEFT's layers are understood when loading.

    Args:
        model (nn.Module): Adapted.
        only_trained (bool): Leave out of state dicts what is frozen now (see :func:`trained_names`). Defaults to False.
    """
    if not only_trained:
        model.register_state_dict_post_hook(_rename)
        model.register_load_state_dict_pre_hook(_name_back)
        return
    # As it is now: a hook may freeze the adapters, too, for some epochs.
    trained = trained_names(model)
    model.register_state_dict_post_hook(partial(_drop_and_rename, trained))
    model.register_load_state_dict_pre_hook(partial(_fill_and_name_back, trained))


def trained_names(model: nn.Module) -> frozenset[str]:
    """Return the names of the trained parameters, and of the buffers that change with them: statistics of BatchNorm.

    Example:
        >>> sorted(trained_names(nn.Sequential(nn.BatchNorm1d(2).requires_grad_(False), nn.BatchNorm1d(2))))
        ['1.bias', '1.num_batches_tracked', '1.running_mean', '1.running_var', '1.weight']
    """
    names = {name for name, param in model.named_parameters() if param.requires_grad}
    for name, module in model.named_modules():
        if any(param.requires_grad for param in module.parameters(recurse=False)):
            names |= {buffer for buffer, _ in module.named_buffers(name, recurse=False)}
    return frozenset(names)


def _rename(module: nn.Module, state: dict, prefix: str, metadata: Any) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        # All of them are put in again, to keep the order.
        value = state.pop(name)
        state[prefix + plain_name(name[len(prefix) :])] = value


def _drop_and_rename(trained: frozenset[str], module: nn.Module, state: dict, prefix: str, metadata: Any) -> None:
    if not _is_adapted(module):  # merged: what was trained is in the weights now
        return
    for name in [name for name in state if name.startswith(prefix) and name[len(prefix) :] not in trained]:
        del state[name]
    _rename(module, state, prefix, metadata)


def _name_back(module: nn.Module, state: dict, prefix: str, *args: Any) -> None:
    """Rename the entries of a state dict to the names of PEFT's layers."""
    own = {plain_name(name): name for name in [*dict(module.named_parameters()), *dict(module.named_buffers())]}
    for name in [name for name in state if name.startswith(prefix)]:
        real = own.get(plain_name(name[len(prefix) :]))
        if real is not None and prefix + real != name:
            state[prefix + real] = state.pop(name)


def _fill_and_name_back(trained: frozenset[str], module: nn.Module, state: dict, prefix: str, *args: Any) -> None:
    """Rename the entries as :func:`_name_back` does, and fill in frozen weights missing from a checkpoint of adapters.

    Raises:
        ValueError: If a checkpoint holds another value of it, which the next checkpoint would leave out again.
    """
    _name_back(module, state, prefix)
    if not _is_adapted(module):
        return
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if name in trained:
            continue
        given = state.setdefault(prefix + name, value.detach())
        if given.shape == value.shape and not torch.equal(given.to(value), value):
            raise ValueError(
                f"LoRA: with checkpoint='adapters' checkpoints leave {prefix}{plain_name(name)} out, "
                'since it is what the stream starts from; the one that is loaded holds another value, '
                "which would be lost. Use lora_rank=dict(..., checkpoint='all'), or give these weights to "
                'the stream by checkpoint_path.'
            )


def _is_adapted(module: nn.Module) -> bool:
    return any(hasattr(layer, 'lora_A') for layer in module.modules())
