"""Convert torchvision's weights for timm models of the same architecture, whose layers have other names."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple, Optional

import timm
import torch
from torch import Tensor, nn

__all__ = ['TWINS', 'Twin', 'differing_eps', 'from_torchvision', 'twin_of', 'twin_of_weights']

Weights = dict[str, Tensor]


def _vit(weights: Mapping[str, Tensor], architecture: str) -> Weights:
    return _renamed(
        weights,
        (r'^class_token$', 'cls_token'),
        (r'^conv_proj\.', 'patch_embed.proj.'),
        (r'^encoder\.pos_embedding$', 'pos_embed'),
        (r'^encoder\.layers\.encoder_layer_(\d+)\.', r'blocks.\1.'),
        (r'\.ln_(\d)\.', r'.norm\1.'),
        (r'\.self_attention\.in_proj_', '.attn.qkv.'),
        (r'\.self_attention\.out_proj\.', '.attn.proj.'),
        (r'\.mlp\.(?:0|linear_1)\.', '.mlp.fc1.'),
        (r'\.mlp\.(?:3|linear_2)\.', '.mlp.fc2.'),
        (r'^encoder\.ln\.', 'norm.'),
        (r'^heads\.head\.', 'head.'),
    )


def _swin(weights: Mapping[str, Tensor], architecture: str) -> Weights:
    known = {name: value for name, value in weights.items() if not name.endswith(('_index', '_coords_table'))}
    found = _renamed(
        known,
        (r'^features\.0\.0\.', 'patch_embed.proj.'),
        (r'^features\.0\.2\.', 'patch_embed.norm.'),
        (r'^features\.([246])\.', lambda match: f'layers.{int(match[1]) // 2}.downsample.'),
        (r'^features\.([1357])\.(\d+)\.', lambda match: f'layers.{int(match[1]) // 2}.blocks.{match[2]}.'),
        (r'\.mlp\.0\.', '.mlp.fc1.'),
        (r'\.mlp\.3\.', '.mlp.fc2.'),
        (r'^head\.', 'head.fc.'),
    )
    for name in [name for name in found if name.endswith('.qkv.bias') and architecture.startswith('swinv2')]:
        block = name.removesuffix('qkv.bias')
        value = found.pop(name)
        third = len(value) // 3
        found[f'{block}q_bias'], found[f'{block}v_bias'] = value[:third], value[2 * third :]  # the keys' is taken as 0
    return found


def _convnext(weights: Mapping[str, Tensor], architecture: str) -> Weights:
    found = _renamed(
        weights,
        (r'^features\.0\.', 'stem.'),
        (r'^features\.([246])\.', lambda match: f'stages.{int(match[1]) // 2}.downsample.'),
        (r'^features\.([1357])\.(\d+)\.', lambda match: f'stages.{int(match[1]) // 2}.blocks.{match[2]}.'),
        (r'\.layer_scale$', '.gamma'),
        (r'\.block\.0\.', '.conv_dw.'),
        (r'\.block\.2\.', '.norm.'),
        (r'\.block\.3\.', '.mlp.fc1.'),
        (r'\.block\.5\.', '.mlp.fc2.'),
        (r'^classifier\.0\.', 'head.norm.'),
        (r'^classifier\.2\.', 'head.fc.'),
    )
    return {name: value.flatten() if name.endswith('.gamma') else value for name, value in found.items()}


def _efficient(weights: Mapping[str, Tensor], architecture: str) -> Weights:
    """Pair the layers by their common order: torchvision numbers the blocks that timm names by kind."""
    target = _shapes(architecture)
    layers = dict.fromkeys(name.rpartition('.')[0] for name in target)
    layers.pop('classifier')
    given = dict.fromkeys(name.rpartition('.')[0] for name in weights)
    *between, last = sorted((name for name in given if name.startswith('classifier.')), key=_natural)
    ordered = [*sorted((name for name in given if name.startswith('features.')), key=_natural), *between]
    if len(ordered) != len(layers):
        return dict(weights)
    new = {**dict(zip(ordered, layers, strict=True)), last: 'classifier'}
    found = {}
    for name, value in weights.items():
        layer, _, own = name.rpartition('.')
        renamed = f'{new.get(layer, layer)}.{own}'
        # MobileNetV3's layer after the pooling is linear there, and a convolution of 1 x 1 here.
        is_convolution = layer in between and len(target.get(renamed, ())) == 4 and value.dim() == 2
        found[renamed] = value[:, :, None, None] if is_convolution else value
    return found


# A weight that tells torchvision's family.
_MARKS: dict[Callable[..., Weights], str] = {
    _vit: 'encoder.layers.encoder_layer_0.ln_1.weight',
    _swin: 'features.1.0.attn.qkv.weight',
    _convnext: 'features.1.0.layer_scale',
    _efficient: 'features.0.1.running_var',
}


class Twin(NamedTuple):
    """A torchvision model that equals a timm model layer by layer.

    Args:
        name (str): Its name in torchvision.
        convert (Callable): Renames its weights: ``(weights, architecture) -> weights``.
        bn_eps (float, optional): ``eps`` of its BatchNorms, where timm's model has another one by default.
    """

    name: str
    convert: Callable[[Mapping[str, Tensor], str], Weights]
    bn_eps: Optional[float] = None


TWINS = {
    **{
        f'vit_{size}_patch{patch}_224': Twin(f'vit_{size[0]}_{patch}', _vit)
        for size, patch in (('base', 16), ('base', 32), ('large', 16), ('large', 32), ('huge', 14))
    },
    **{f'swin_{size}_patch4_window7_224': Twin(f'swin_{size[0]}', _swin) for size in ('tiny', 'small', 'base')},
    **{f'swinv2_{size}_window8_256': Twin(f'swin_v2_{size[0]}', _swin) for size in ('tiny', 'small', 'base')},
    **{f'convnext_{size}': Twin(f'convnext_{size}', _convnext) for size in ('tiny', 'small', 'base', 'large')},
    **{f'efficientnet_b{n}': Twin(f'efficientnet_b{n}', _efficient, 1e-3 if n > 4 else None) for n in range(8)},
    **{f'efficientnetv2_{size}': Twin(f'efficientnet_v2_{size}', _efficient, 1e-3) for size in 'sml'},
    'mobilenetv2_100': Twin('mobilenet_v2', _efficient),
    'mobilenetv3_large_100': Twin('mobilenet_v3_large', _efficient, 1e-3),
    'mobilenetv3_small_100': Twin('mobilenet_v3_small', _efficient, 1e-3),
}
"""By the name in timm."""


def twin_of(model: Any, weights: Mapping[str, Any]) -> Optional[Twin]:
    """Return the torchvision counterpart of a timm model, if ``weights`` have torchvision's names."""
    name = str((getattr(model, 'pretrained_cfg', None) or {}).get('architecture'))
    twin = TWINS.get(re.sub(r'^(vit_\w+_patch\d+)_\d+$', r'\1_224', name))  # of other sizes, too
    return twin if twin is not None and _MARKS[twin.convert] in weights else None


def from_torchvision(model: Any, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return weights under the names of a timm model if they are torchvision's for it, else unchanged."""
    twin = twin_of(model, weights)
    return weights if twin is None else twin.convert(weights, model.pretrained_cfg['architecture'])


def differing_eps(model: nn.Module, weights: Mapping[str, Any]) -> Optional[float]:
    """Return the ``eps`` that torchvision's weights need in each BatchNorm of a model; nothing if it has them."""
    twin = twin_of(model, weights)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    needs = None if twin is None else twin.bn_eps or 1e-5
    return needs if any(norm.eps != needs for norm in norms) else None


def twin_of_weights(weights: Mapping[str, Tensor]) -> Optional[str]:
    """Return the name of the timm model that torchvision's weights belong to, or None."""
    for architecture, twin in TWINS.items():
        if _MARKS[twin.convert] in weights:
            found = {name: tuple(value.shape) for name, value in twin.convert(weights, architecture).items()}
            if _body(found) == _body(_shapes(architecture)):
                return architecture
    return None


def _body(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return the entries that do not depend on the number of classes or the image size."""
    return {name: shape for name, shape in shapes.items() if not name.startswith(('head.', 'classifier.', 'pos_embed'))}


@cache
def _shapes(architecture: str) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the weights of a timm model with its classifier, in order."""
    with torch.device('meta'):
        model: Any = timm.create_model(architecture)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def _renamed(weights: Mapping[str, Tensor], *rules: tuple[str, Any]) -> Weights:
    found = {}
    for name, value in weights.items():
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        found[name] = value
    return found


def _natural(name: str) -> list[tuple[bool, int, str]]:
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in name.split('.')]
