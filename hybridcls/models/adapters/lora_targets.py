"""Choose the layers of a stream that LoRA adapts."""

import re
from collections.abc import Sequence
from typing import Union

from torch import nn

from hybridcls.checks import did_you_mean

__all__ = ['QKV_SLICES', 'Targets', 'adaptable_layers', 'choose_layers']

QKV_SLICES = ('q', 'k', 'v')
Targets = Union[None, str, Sequence[str]]
# Not part of what a block computes from its tokens or positions: the patch embedding (its name ends in `proj` too),
# the network of Swin V2's relative positions, classifiers and their pooling.
_NEVER = re.compile(r'(^|\.)(patch_embed|stem|cpb_mlp|rel_pos|pos_embed|head|fc_norm|attn_pool|classifier|fc)(\.|$)')
_MOST_NAMED = 12


def adaptable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that LoRA adapts by default: linear ones, and 1 x 1 convolutions without groups.

    ConvNeXt's MLPs are the one or the other, depending on the variant.
    """
    return {
        name: layer
        for name, layer in model.named_modules()
        if not _NEVER.search(name) and (isinstance(layer, nn.Linear) or _is_pointwise(layer))
    }


def choose_layers(caller: str, model: nn.Module, targets: Targets) -> dict[str, tuple[str, ...]]:
    """Find the layers that ``targets`` names.

    Args:
        caller (str): Name that errors start with.
        model (nn.Module): A timm model, or any other.
        targets (str | Sequence[str], optional): None: :func:`adaptable_layers`. A string is a regular expression for
            the whole name. A list holds ends of names, whole words (``'qkv'``, ``'attn.proj'``), and ``'q'``, ``'k'``
            or ``'v'`` for a slice of a fused ``qkv``.

    Returns:
        dict[str, tuple[str, ...]]: Names of the layers, in order, each with the slices that are adapted; ``()`` is all
        of it.

    Raises:
        ValueError: If nothing matches; lists what there is.
        TypeError: If a layer that matches is of a kind that LoRA cannot adapt.

    Example:
        >>> model = nn.ModuleDict(dict(attn=nn.ModuleDict(dict(qkv=nn.Linear(4, 12), proj=nn.Linear(4, 4)))))
        >>> choose_layers('me', model, ['q', 'v', 'proj'])
        {'attn.qkv': ('q', 'v'), 'attn.proj': ()}
    """
    if targets is None:
        chosen: dict[str, tuple[str, ...]] = dict.fromkeys(adaptable_layers(model), ())
    elif isinstance(targets, str):
        try:
            pattern = re.compile(targets)
        except re.error as error:
            raise ValueError(
                f'{caller}: targets={targets!r} is no regular expression ({error}); for ends of names give a list.'
            ) from error
        chosen = {
            name: ()
            for name, layer in model.named_modules()
            if name and pattern.fullmatch(name) and not list(layer.children())
        }
    else:
        chosen = {}
        for name, layer in model.named_modules():
            if _NEVER.search(name) or list(layer.children()):
                continue
            if any(name == end or name.endswith(f'.{end}') for end in targets):
                chosen[name] = ()
            elif name.rsplit('.', 1)[-1] == 'qkv' and set(targets) & set(QKV_SLICES):
                chosen[name] = tuple(part for part in QKV_SLICES if part in targets)
        _check_ends(caller, model, targets, chosen)
    if not chosen:
        raise ValueError(f'{caller}: no layer matches targets={targets!r}. {_what_there_is(model)}')
    layers = dict(model.named_modules())
    for name in chosen:
        layer = layers[name]
        if not isinstance(layer, (nn.Linear, nn.Conv2d)) or (isinstance(layer, nn.Conv2d) and layer.groups > 1):
            raise TypeError(
                f'{caller}: {name} is a {type(layer).__name__}'
                f'{" with groups" if isinstance(layer, nn.Conv2d) else ""}, which LoRA cannot adapt; '
                f'linear layers and convolutions without groups it can. {_what_there_is(model)}'
            )
    return chosen


def _check_ends(caller: str, model: nn.Module, targets: Sequence[str], chosen: dict[str, tuple[str, ...]]) -> None:
    """Raise if an entry of the list matches nothing, as a misspelt one would be ignored silently."""
    for end in targets:
        found = any(name == end or name.endswith(f'.{end}') or end in slices for name, slices in chosen.items())
        if not found:
            ends = {name.rsplit('.', 1)[-1] for name in adaptable_layers(model)}
            raise ValueError(
                f'{caller}: no layer matches {end!r} of targets={list(targets)}.{did_you_mean(end, ends)} '
                f'{_what_there_is(model)}'
            )


def _what_there_is(model: nn.Module) -> str:
    ends: dict[str, int] = {}
    for name in adaptable_layers(model):
        end = '.'.join(part for part in name.split('.')[-2:] if not part.isdigit())
        ends[end] = ends.get(end, 0) + 1
    listed = ', '.join(f'{end} ({count})' for end, count in list(ends.items())[:_MOST_NAMED])
    return f'Layers that can be adapted: {listed}.' if listed else 'The model has no layer that LoRA can adapt.'


def _is_pointwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1
