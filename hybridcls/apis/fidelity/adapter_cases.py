"""Fidelity cases of token merging and LoRA on built models."""

from typing import Any, Union

import numpy as np
import torch
from torch import Tensor, nn

from hybridcls.functional.tokens.token_matching import match_tokens, merge_tokens
from hybridcls.models.adapters import LoRASettings, add_lora, add_token_merging
from hybridcls.models.adapters.token_merging import merged_tokens

from .fidelity_case import Expected, FidelityCase, Found, Official, Place
from .fixed_inputs import photographs, waves

__all__ = ['CASES', 'LORA_ALPHA', 'LORA_RANK', 'LORA_WEIGHTS', 'MERGED_TIMES', 'MERGINGS', 'plain_transformer']

LORA_RANK, LORA_ALPHA = 2, 3
LORA_WEIGHTS = dict(
    weight=waves(6, 5), bias=waves(6, start=30), lora_A=waves(LORA_RANK, 5, start=50),
    lora_B=waves(6, LORA_RANK, start=70),
)  # fmt: skip
MERGED_TIMES = (4, 3, 2)
Schedule = Union[int, tuple]
MERGINGS: dict[str, list[tuple[Schedule, bool]]] = {
    'Token merging in a ViT': [
        (7, True), (7, False), ((8, -1.0), True), ((8, 0.5), True), ((40, 0, 20, 3), True), (60, True),
    ],
    'Token merging in a DeiT': [(7, True), ((8, -1.0), False), ((40, 0, 20, 3), True), (60, True)],
    'Token merging without a class token': [((10, 5, 0, 0), True), ((40, 0, 20, 3), True)],
}  # fmt: skip
"""By the name of the case: r of ToMe's code, and whether attention is proportional."""


def plain_transformer(name: str) -> nn.Module:
    """Return the small transformer of a case, with the same weights everywhere."""
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.vision_transformer import VisionTransformer

    keys: dict[str, Any] = dict(img_size=40, patch_size=4, embed_dim=24, depth=4, num_heads=3, num_classes=3)
    if name.endswith('without a class token'):
        keys.update(class_token=False, global_pool='avg')
    model = (VisionTransformerDistilled if name.endswith('DeiT') else VisionTransformer)(**keys).eval().double()
    with torch.no_grad():
        for place, (key, param) in enumerate(sorted(model.named_parameters())):
            scale = 0.3 if param.dim() > 1 else 0.1
            param.copy_(torch.from_numpy(scale * waves(*param.shape, start=1000 * place)))
            if 'norm' in key and key.endswith('weight'):
                param.add_(1)
    return model


@torch.no_grad()
def _merged_model(name: str, place: Place) -> dict[str, Tensor]:
    numbers = {}
    for r, proportional in MERGINGS[name]:
        model = plain_transformer(name).to(place.device, place.dtype)
        ratio = dict(r=r) if isinstance(r, int) else dict(r=r[0], inflection=r[1]) if len(r) == 2 else dict(r=list(r))
        add_token_merging(model, ratio, proportional_attention=proportional)
        images = place.tensor(photographs(2, 40))
        with_class = getattr(model, 'cls_token', None) is not None
        numbers[f'{r} {proportional}'] = (
            model(images) if with_class else merged_tokens(model, images)[-1].tokens[:, :, :3]
        )
    return numbers


def _merged_tokens(place: Place) -> Found:
    numbers: dict[str, Tensor] = {}
    for protected in (0, 1, 2):
        tokens, size = place.tensor(waves(1, 16, 3)), None
        for r in MERGED_TIMES:
            tokens, size = merge_tokens(tokens, match_tokens(tokens, r, protected), size)
        numbers[f'{protected} tokens'], numbers[f'{protected} sizes'] = tokens[0], size[0]  # type: ignore[index]
    return numbers


def _adapted(place: Place, settings: LoRASettings) -> tuple[nn.Module, Tensor]:
    model = nn.ModuleDict(dict(layer=nn.Linear(5, 6)))
    add_lora(model, settings)
    given = {'layer.lora_A.weight': 'lora_A', 'layer.lora_B.weight': 'lora_B'}
    state = {key: torch.from_numpy(LORA_WEIGHTS[given.get(key, key.rpartition('.')[2])]) for key in model.state_dict()}
    model.to(place.device, place.dtype).load_state_dict(state)
    return model['layer'], place.tensor(waves(3, 5, phase=0.8))


def _lora(place: Place) -> Found:
    layer, x = _adapted(place, LoRASettings(rank=LORA_RANK, alpha=LORA_ALPHA, targets=['layer']))
    out = layer(x)
    out.square().sum().backward()
    gradients = [param.grad for param in layer.parameters() if param.grad is not None]
    return dict(out=out, lora_A=gradients[0], lora_B=gradients[1])


def _rslora(place: Place) -> Found:
    settings = LoRASettings(rank=LORA_RANK, alpha=LORA_ALPHA, targets=['layer'], use_rslora=True)
    layer, x = _adapted(place, settings)
    return dict(out=layer(x))


def _rslora_by_hand() -> Expected:
    update = LORA_ALPHA / np.sqrt(LORA_RANK) * LORA_WEIGHTS['lora_B'] @ LORA_WEIGHTS['lora_A']
    return dict(out=waves(3, 5, phase=0.8) @ (LORA_WEIGHTS['weight'] + update).T + LORA_WEIGHTS['bias'])


_TOME = Official('facebookresearch/ToMe', 'af95e4b1', 'tome/merge.py')
_TOME_PATCH = Official('facebookresearch/ToMe', 'af95e4b1', 'tome/patch/timm.py')
_PAPER = 'Token merging, arXiv 2210.09461'


def _merging(name: str, setting: str, deviates: str = '') -> FidelityCase:
    return FidelityCase(
        name, ('add_token_merging',), 'adapter', _PAPER, _TOME_PATCH, setting, lambda place: _merged_model(name, place),
        tolerance32=1e-4, deviates=deviates,
    )  # fmt: skip


CASES = [
    FidelityCase(
        'Merges of tokens', ('add_token_merging',), 'adapter', _PAPER, _TOME,
        'r = 4, 3, 2 on 16 tokens, 0, 1 or 2 of them protected', _merged_tokens,
        deviates="without a protected token hybridcls before 0.2 kept their positions: unmerged_order='position'. "
        'The default is the code',
    ),
    _merging('Token merging in a ViT', '6 schedules, with and without proportional attention: tome.patch.timm'),
    _merging('Token merging in a DeiT', '4 schedules, a distillation token: tome.patch.timm'),
    _merging('Token merging without a class token', '2 schedules, the tokens after the last block: tome.patch.timm',
             'the code then averages the merged tokens as equals; here each counts with its patches (no switch; '
             "its form for MAE does, too)"),
    FidelityCase(
        'LoRA', ('add_lora',), 'adapter', 'LoRA, arXiv 2106.09685',
        Official('microsoft/LoRA', 'c4593f06', 'loralib/layers.py'),
        f'rank={LORA_RANK}, alpha={LORA_ALPHA} on a linear layer, through PEFT: loralib.Linear', _lora, needs='peft',
    ),
    FidelityCase(
        'LoRA, rank-stabilized', ('add_lora',), 'adapter', 'rsLoRA, arXiv 2312.03732', 'its equation in float64',
        f'use_rslora=True, rank={LORA_RANK}, alpha={LORA_ALPHA}', _rslora, _rslora_by_hand, needs='peft',
    ),
]  # fmt: skip
