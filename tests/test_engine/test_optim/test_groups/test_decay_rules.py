import pytest
import timm
import torch
from timm.layers import BatchNormAct2d, RmsNorm
from timm.optim import param_groups_layer_decay
from torch import nn

from hybridcls.engine.optim.groups import DecayRules

ALL = dict(special=0.0, norm=0.0, bias=0.0, flat=0.0)


@pytest.mark.parametrize(
    'name',
    [
        'convnextv2_atto',
        'swin_tiny_patch4_window7_224',
        'swinv2_tiny_window8_256',
        'vit_small_patch14_reg4_dinov2',
        'resnet18',
        'beit_base_patch16_224',
        'levit_128s',
    ],
)
def test_the_default_rules_are_those_of_timm(name):
    """The oracle: timm's one-dimension rule with the model's own list."""
    with torch.device('meta'):
        model = timm.create_model(name, num_classes=10)
    listed = {'reg_token', *(model.no_weight_decay() if hasattr(model, 'no_weight_decay') else ())}  # timm from 1.0.23
    free = {
        id(param)
        for group in param_groups_layer_decay(model, 0.05, listed)
        if not group['weight_decay']
        for param in group['params']
    }
    rules = DecayRules(model, ALL)
    owners = {
        f'{path}.{leaf}'.lstrip('.'): module for path, module in model.named_modules() for leaf in module._parameters
    }
    for param_name, param in model.named_parameters():
        assert (rules.factor(param_name, owners[param_name], param) == 0) == (id(param) in free), param_name


def factor(name, factors, owner=None, shape=(4, 4), model=None):
    return DecayRules(model or nn.Module(), factors).factor(name, owner or nn.Module(), torch.zeros(shape))


@pytest.mark.parametrize(
    'leaf',
    [
        'pos_embed',
        'absolute_pos_embed',
        'position_embedding',
        'relative_position_bias_table',
        'rel_pos_h',
        'cls_token',
        'dist_token',
        'reg_token',
        'mask_token',
        'register_tokens',
        'storage_tokens',
        'class_embedding',
        'pos_embed_win',
    ],
)
def test_tables_and_tokens_are_special_in_models_that_list_nothing(leaf):
    assert factor(f'backbone.{leaf}', ALL, shape=(1, 4, 8)) == 0
    assert factor(f'backbone.{leaf}', dict(special=0.25, flat=0.0), shape=(8,)) == 0.25


@pytest.mark.parametrize(
    'name',
    [
        'tokens.weight',
        'token_embed.weight',
        'pos_embed.proj.weight',
        'head.weight',
        'attn.qkv.lora_A.default.weight',
        'gammas.weight',
    ],
)
def test_matrices_with_such_names_above_them_decay(name):
    assert factor(f'backbone.{name}', ALL, owner=nn.Linear(4, 4)) == 1


def test_an_embedding_of_positions_is_special():
    assert factor('backbone.pos_embed.weight', ALL, owner=nn.Embedding(4, 4)) == 0
    assert factor('backbone.words.weight', ALL, owner=nn.Embedding(4, 4)) == 1


@pytest.mark.parametrize(
    'norm',
    [
        nn.BatchNorm2d(4),
        nn.GroupNorm(2, 4),
        nn.LayerNorm(4),
        RmsNorm(4),
        BatchNormAct2d(4),
        nn.InstanceNorm2d(4, affine=True),
    ],
)
def test_norms_are_told_from_other_vectors(norm):
    rules = DecayRules(nn.Module(), dict(norm=0.5, flat=0.0))
    assert rules.factor('a.weight', norm, norm.weight) == 0.5
    assert rules.factor('a.gamma', nn.Module(), torch.zeros(4)) == 0


def test_a_layer_whose_class_only_sounds_like_a_norm_decays():
    class NormLinear(nn.Linear):
        pass

    assert factor('head.weight', ALL, owner=NormLinear(4, 4)) == 1


@pytest.mark.parametrize(
    ('leaf', 'shape'), [('gamma', (4,)), ('gamma_1', (4, 1, 1)), ('layer_scale_2', (1, 4, 1, 1)), ('logit_scale', ())]
)
def test_scales_are_flat_whatever_their_shape(leaf, shape):
    assert factor(f'block.{leaf}', dict(flat=0.0), shape=shape) == 0


def test_the_first_kind_that_has_a_factor_decides():
    conv = nn.Conv2d(4, 4, 3, groups=4)
    rules = DecayRules(nn.Module(), dict(dwconv=0.5, flat=0.0))
    assert rules.factor('conv.weight', conv, conv.weight) == 0.5
    assert rules.factor('conv.bias', conv, conv.bias) == 0.5
    assert DecayRules(nn.Module(), dict(bias=0.1, dwconv=0.5)).factor('conv.bias', conv, conv.bias) == 0.1
    assert DecayRules(nn.Module(), {}).factor('conv.bias', conv, conv.bias) == 1


def test_a_list_of_names_may_hold_patterns():
    class Model(nn.Module):
        def no_weight_decay(self):
            return {'table', '*.prompt'}

    model = nn.ModuleDict(dict(backbone=Model()))
    assert factor('backbone.table', ALL, model=model) == 0
    assert factor('backbone.deep.prompt', ALL, model=model) == 0
    assert factor('table', ALL, model=model) == 1
