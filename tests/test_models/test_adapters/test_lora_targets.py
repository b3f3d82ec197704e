"""Which layers LoRA adapts, from the names and kinds of layers alone."""

import pytest
from torch import nn

from hybridcls.models.adapters.lora_targets import adaptable_layers, choose_layers


def block():
    return nn.ModuleDict(
        dict(
            attn=nn.ModuleDict(dict(qkv=nn.Linear(4, 12), proj=nn.Linear(4, 4))),
            mlp=nn.ModuleDict(dict(fc1=nn.Linear(4, 8), act=nn.GELU(), fc2=nn.Conv2d(8, 4, 1))),
            conv_dw=nn.Conv2d(4, 4, 3, groups=4),
            conv=nn.Conv2d(4, 4, 3),
            cpb_mlp=nn.Linear(2, 2),
            norm=nn.LayerNorm(4),
        )
    )


def model():
    return nn.ModuleDict(
        dict(
            patch_embed=nn.ModuleDict(dict(proj=nn.Conv2d(3, 4, 1))),
            blocks=nn.ModuleList([block(), block()]),
            head=nn.Linear(4, 10),
        )
    )


NAMES = ['attn.qkv', 'attn.proj', 'mlp.fc1', 'mlp.fc2']


def test_by_default_linear_layers_and_pointwise_convolutions_of_the_blocks():
    expected = [f'blocks.{number}.{name}' for number in range(2) for name in NAMES]
    assert list(adaptable_layers(model())) == expected
    assert choose_layers('me', model(), None) == dict.fromkeys(expected, ())


@pytest.mark.parametrize(
    ('targets', 'chosen'),
    [
        (['attn.proj'], {'blocks.0.attn.proj': (), 'blocks.1.attn.proj': ()}),
        (['v', 'q'], {'blocks.0.attn.qkv': ('q', 'v'), 'blocks.1.attn.qkv': ('q', 'v')}),
        (r'blocks\.1\.mlp\.fc.', {'blocks.1.mlp.fc1': (), 'blocks.1.mlp.fc2': ()}),
        (r'blocks\.0\.conv', {'blocks.0.conv': ()}),  # any kernel, where it is asked for
        (['proj', 'head'], None),  # neither the patch embedding nor the classifier
    ],
)
def test_ends_of_names_slices_and_expressions(targets, chosen):
    if chosen is None:
        with pytest.raises(ValueError, match="me: no layer matches 'head' of targets"):
            choose_layers('me', model(), targets)
    else:
        assert choose_layers('me', model(), targets) == chosen


@pytest.mark.parametrize(
    ('targets', 'message'),
    [
        (['qvk'], r"no layer matches 'qvk'.*Did you mean .*qkv.*Layers that can be adapted: attn\.qkv \(2\)"),
        (['kv'], "no layer matches 'kv'"),  # whole words: not the end of qkv
        ('nothing', "no layer matches targets='nothing'"),
        ('(', 'is no regular expression'),
    ],
)
def test_what_matches_nothing_is_named(targets, message):
    with pytest.raises(ValueError, match=message):
        choose_layers('me', model(), targets)


@pytest.mark.parametrize(('targets', 'kind'), [(['norm'], 'LayerNorm'), (['conv_dw'], 'Conv2d with groups')])
def test_a_layer_of_another_kind_is_refused(targets, kind):
    with pytest.raises(TypeError, match=f'is a {kind}, which LoRA cannot adapt'):
        choose_layers('me', model(), targets)
