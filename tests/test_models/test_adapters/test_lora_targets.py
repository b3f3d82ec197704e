"""The layers that LoRA adapts: by default, by ends of names, by a regular expression."""

import pytest
from torch import nn

from hybridcls.models.adapters.lora_targets import adaptable_layers, choose_layers


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(4, 12)
        self.proj = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.pointwise = nn.Conv2d(4, 4, 1)
        self.depthwise = nn.Conv2d(4, 4, 1, groups=4)
        self.wide = nn.Conv2d(4, 4, 3)


MODEL = nn.ModuleDict(
    dict(patch_embed=nn.ModuleDict(dict(proj=nn.Linear(3, 4))), blocks=nn.ModuleList([Block()]), head=nn.Linear(4, 2))
)


def test_by_default_linear_layers_and_pointwise_convolutions_of_the_blocks():
    expected = ['blocks.0.qkv', 'blocks.0.proj', 'blocks.0.pointwise']
    assert list(adaptable_layers(MODEL)) == expected
    assert choose_layers('test', MODEL, None) == dict.fromkeys(expected, ())


@pytest.mark.parametrize(
    ('targets', 'chosen'),
    [
        (['proj'], {'blocks.0.proj': ()}),  # not the patch embedding's
        (['v', 'q'], {'blocks.0.qkv': ('q', 'v')}),
        (['qkv', 'q'], {'blocks.0.qkv': ()}),
        (['0.wide'], {'blocks.0.wide': ()}),
        (r'.*\.(proj|wide)', {'patch_embed.proj': (), 'blocks.0.proj': (), 'blocks.0.wide': ()}),
    ],
)
def test_names_and_patterns(targets, chosen):
    if isinstance(targets, list) and 'qkv' in targets:
        with pytest.raises(ValueError, match="no layer matches 'q'"):  # all of it is adapted already
            choose_layers('test', MODEL, targets)
    else:
        assert choose_layers('test', MODEL, targets) == chosen


@pytest.mark.parametrize(
    ('targets', 'error', 'message'),
    [
        (['porj'], ValueError, r"test: no layer matches 'porj' .*Did you mean 'proj'.* qkv \(1\)"),
        ('nothing', ValueError, "test: no layer matches targets='nothing'"),
        ('(', ValueError, r"targets='\(' is no regular expression"),
        (['norm'], TypeError, 'blocks.0.norm is a LayerNorm, which LoRA cannot adapt'),
        (['depthwise'], TypeError, 'blocks.0.depthwise is a Conv2d with groups'),
    ],
)
def test_what_cannot_be_adapted(targets, error, message):
    with pytest.raises(error, match=message):
        choose_layers('test', MODEL, targets)
