import copy
import logging

import pytest
import timm
import torch
from mmengine.logging import MMLogger
from mmengine.optim import (
    ConstantLR,
    CosineAnnealingLR,
    DefaultOptimWrapperConstructor,
    OptimWrapper,
    build_optim_wrapper,
)
from mmengine.registry import DefaultScope
from mmpretrain.engine.optimizers import LearningRateDecayOptimWrapperConstructor
from timm.optim import param_groups_layer_decay
from torch import nn

from hybridcls.engine.optim import ComposedOptimWrapper, HybridOptimWrapperConstructor
from hybridcls.registry import MODELS

CNN, VIT = dict(model_name='test_resnet'), dict(model_name='test_vit')


def make_hybrid(cnn=CNN, vit=VIT, img_size=32, device='cpu', **backbone):
    with torch.device(device):
        return MODELS.build(
            dict(
                type='HybridClassifier',
                backbone=dict(type='HybridBackbone', cnn=cnn, vit=vit, img_size=img_size, **backbone),
                neck=dict(type='DHAFusion', fusion_dim=8),
                head=dict(type='LinearHead', num_classes=3),
            )
        )


def make_wrapper(model, optimizer=None, constructor='hybridcls.HybridOptimWrapperConstructor', **paramwise):
    cfg = dict(
        type='hybridcls.ComposedOptimWrapper',
        constructor=constructor,
        paramwise_cfg=paramwise,
        optimizer=optimizer or dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    )
    return build_optim_wrapper(model, cfg)


def settings(model, wrapper, *keys):
    """What each parameter got, by name."""
    found = {
        id(param): tuple(group[key] for key in keys or ('lr', 'weight_decay'))
        for group in wrapper.optimizer.param_groups
        for param in group['params']
    }
    return {name: found[id(param)] for name, param in model.named_parameters() if id(param) in found}


def assert_same(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def plain():
    """A model of no framework, with a norm, a bias and a shared matrix if asked for."""
    return nn.ModuleDict(dict(backbone=nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)), head=nn.Linear(3, 3)))


@pytest.mark.parametrize(
    ('cnn', 'vit', 'img_size'),
    [
        ('convnextv2_atto', 'swinv2_tiny_window8_256', 256),
        ('convnext_atto', 'swin_tiny_patch4_window7_224', 224),
        ('resnet18', 'vit_tiny_patch16_224', 224),
        (None, 'eva02_tiny_patch14_224', 224),
        (None, 'beit_base_patch16_224', 224),
    ],
)
def test_rates_and_decays_of_both_streams_are_timms(cnn, vit, img_size):
    """The oracle: timm's param_groups_layer_decay of each whole model, classifier included."""
    rates = {name: rate for name, rate in (('cnn', 0.8 if cnn else None), ('vit', 0.6)) if rate}
    model = make_hybrid(cnn and dict(model_name=cnn), dict(model_name=vit), img_size, device='meta')
    found = settings(model, make_wrapper(model, layer_decay_rate=rates))
    assert len(found) == len(list(model.parameters()))
    for stream, rate in rates.items():
        with torch.device('meta'):
            whole = timm.create_model(cnn if stream == 'cnn' else vit, num_classes=10)
        listed = whole.no_weight_decay() if hasattr(whole, 'no_weight_decay') else ()
        expected = {
            id(param): (1e-3 * group['lr_scale'], group['weight_decay'])
            for group in param_groups_layer_decay(whole, 0.05, listed, layer_decay=rate)
            for param in group['params']
        }
        own = [name for name, _ in getattr(model.backbone, stream).model.named_parameters()]
        assert len(own) > 30
        for name in own:
            assert found[f'backbone.{stream}.model.{name}'] == pytest.approx(expected[id(whole.get_parameter(name))])
    assert found['head.fc.weight'] == (1e-3, 0.05)


@pytest.mark.parametrize(
    'backbone',
    [
        dict(
            type='mmpretrain.VisionTransformer',
            img_size=32,
            patch_size=16,
            arch=dict(embed_dims=8, num_layers=3, num_heads=2, feedforward_channels=16),
        ),
        dict(type='mmpretrain.ConvNeXt', arch=dict(depths=[1, 1, 2, 1], channels=[8, 8, 8, 8])),
    ],
)
def test_equals_mmpretrains_constructor_on_mmpretrains_models(backbone):
    model = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=backbone,
            head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=8),
        )
    )
    keys = dict(
        layer_decay_rate=0.7,
        norm_decay_mult=0.0,
        flat_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={'.cls_token': dict(decay_mult=0.0), '.pos_embed': dict(decay_mult=0.0)},
    )
    ours = settings(model, make_wrapper(model, **keys))
    theirs = settings(model, make_wrapper(model, None, 'mmpretrain.LearningRateDecayOptimWrapperConstructor', **keys))
    assert_same(ours, theirs)


def test_mmpretrains_constructor_takes_our_model():
    model = make_hybrid(use_cbam=True, token_learner_tokens=2)
    cfg = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, weight_decay=0.0))
    theirs = LearningRateDecayOptimWrapperConstructor(cfg, dict(layer_decay_rate=0.5))(model)
    ours = make_wrapper(model, dict(type='SGD', lr=0.1, weight_decay=0.0), layer_decay_rate=0.5)
    assert_same(settings(model, ours, 'lr'), settings(model, theirs, 'lr'))
    assert len(theirs.optimizer.param_groups) > 5 * len(ours.optimizer.param_groups)


def test_equals_mmengines_default_constructor_where_both_speak():
    model = nn.ModuleDict(
        dict(backbone=nn.Sequential(nn.Conv2d(4, 4, 1, groups=4), nn.BatchNorm2d(4)), head=nn.Linear(3, 3))
    )
    keys = dict(
        bias_lr_mult=2.0,
        bias_decay_mult=0.5,
        norm_decay_mult=0.25,
        dwconv_decay_mult=0.1,
        flat_decay_mult=0.3,
        custom_keys={'head.w': dict(lr_mult=0.1, decay_mult=3.0), 'head': dict(lr_mult=7.0, decay_mult=1.0)},
    )
    cfg = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, weight_decay=0.2))
    theirs = settings(model, DefaultOptimWrapperConstructor(cfg, keys)(model))
    ours = settings(model, HybridOptimWrapperConstructor(cfg, keys)(model))
    assert_same(ours, theirs)
    assert ours['head.weight'] == pytest.approx((0.01, 0.6))


def test_factors_by_part_meet_layer_decay():
    model = make_hybrid(use_cbam=True)
    found = settings(
        model,
        make_wrapper(
            model,
            layer_decay_rate=dict(vit=0.5),
            lr_mult=dict(cnn=0.1, vit=0.25, neck=2.0, head=4.0),
            custom_keys={'vit.model.blocks.0.attn': dict(lr_mult=3.0)},
        ),
        'lr',
    )
    assert found['backbone.cnn.model.conv1.0.weight'] == pytest.approx((1e-4,))
    assert {lr for name, (lr,) in found.items() if '.cbam.' in name} == {1e-4}
    assert found['backbone.vit.model.pos_embed'] == pytest.approx((1e-3 * 0.25 * 0.5**7,))
    assert found['backbone.vit.model.blocks.0.attn.qkv.weight'] == pytest.approx((1e-3 * 3 * 0.25 * 0.5**6,))
    assert {lr for name, (lr,) in found.items() if name.startswith('neck.')} == {2e-3}
    assert {lr for name, (lr,) in found.items() if name.startswith('head.')} == {4e-3}


def test_without_any_key_only_the_decay_rules_hold():
    model = plain()
    groups = make_wrapper(model).optimizer.param_groups
    assert [(len(group['params']), group['lr'], group['weight_decay']) for group in groups] == [
        (2, 1e-3, 0.05),
        (4, 1e-3, 0.0),
    ]


def test_a_custom_key_changes_only_what_it_names():
    model = plain()
    found = settings(
        model,
        make_wrapper(
            model, custom_keys={'backbone': dict(lr_mult=0.1), 'head': dict(decay_mult=2.0, betas=(0.5, 0.6))}
        ),
        'lr',
        'weight_decay',
        'betas',
    )
    assert_same(found['backbone.0.weight'], (1e-4, 0.05, (0.9, 0.999)))
    assert_same(found['backbone.1.weight'], (1e-4, 0.0, (0.9, 0.999)))
    assert_same(found['head.bias'], (1e-3, 0.1, (0.5, 0.6)))


def test_a_custom_key_that_decides_nothing_is_said(caplog):
    logger = MMLogger.get_instance('paramwise', log_level='INFO')
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO):
        make_wrapper(plain(), custom_keys={'backbone': dict(lr_mult=0.1), 'bakcbone': dict(lr_mult=1.0)})
    assert "custom_keys['bakcbone'] matches no parameter" in caplog.text
    assert "custom_keys['backbone']" not in caplog.text
    assert 'weight decay  names' in caplog.text


def test_the_defaults_of_the_optimizer_are_the_base():
    """AdamW decays by 0.01 by default, and norms must not even then."""
    model = plain()
    found = settings(model, make_wrapper(model, dict(type='AdamW')))
    assert found['backbone.0.weight'] == (1e-3, 0.01)
    assert found['backbone.1.weight'] == (1e-3, 0.0)


def test_an_optimizer_without_weight_decay():
    model = plain()
    wrapper = make_wrapper(model, dict(type='Rprop', lr=0.1), lr_mult=dict(head=0.5))
    assert settings(model, wrapper, 'lr')['head.bias'] == (0.05,)
    with pytest.raises(ValueError, match='norm_decay_mult is a factor of the weight decay of the optimizer, but Rprop'):
        make_wrapper(plain(), dict(type='Rprop', lr=0.1), norm_decay_mult=0.0)


def test_frozen_parameters_are_left_out_or_kept_without_state():
    model = make_hybrid(cnn=dict(**CNN, frozen_stages=1))
    frozen = {name for name, param in model.named_parameters() if not param.requires_grad}
    assert frozen
    out = make_wrapper(model)
    assert not frozen & settings(model, out).keys()
    kept = make_wrapper(model, keep_frozen=True)
    assert settings(model, kept).keys() == {name for name, _ in model.named_parameters()}
    data = dict(inputs=[torch.zeros(3, 32, 32, dtype=torch.uint8)] * 2)
    model.forward = lambda **_: dict(loss=sum(p.sum() for p in model.parameters() if p.requires_grad))
    model.train_step(data, kept)
    assert len(kept.optimizer.state) == len(list(model.parameters())) - len(frozen)


def test_nothing_to_train_is_an_error():
    with pytest.raises(ValueError, match='none of the 6 parameters of ModuleDict needs a gradient'):
        make_wrapper(plain().requires_grad_(False))


def test_a_shared_parameter_is_trained_once():
    model = plain()
    model['head'].weight = model['backbone'][0].weight
    assert len(settings(model, make_wrapper(model, lr_mult=dict(backbone=0.5)))) == 5
    with pytest.raises(ValueError, match=r'head.weight is the same parameter as backbone.0.weight'):
        make_wrapper(model, bypass_duplicate=False)


def test_lora_parameters_are_as_deep_as_their_layer():
    peft = pytest.importorskip('peft')
    model = make_hybrid(vit=dict(model_name='test_vit'))
    peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=['qkv']), model.backbone.vit.model)
    found = settings(model, make_wrapper(model, layer_decay_rate=dict(vit=0.5)))
    lora = {name: value for name, value in found.items() if 'lora_' in name}
    assert len(lora) == 12
    assert lora['backbone.vit.model.blocks.0.attn.qkv.lora_A.default.weight'] == pytest.approx((1e-3 * 0.5**6, 0.05))
    assert not any('base_layer' in name for name in found)


def test_schedulers_scale_each_group():
    model = make_hybrid()
    wrapper = make_wrapper(model, dict(type='SGD', lr=0.1), layer_decay_rate=0.5)
    before = settings(model, wrapper, 'lr')
    ConstantLR(wrapper, factor=0.1, begin=0, end=5)
    assert_same(settings(model, wrapper, 'lr'), {name: (lr * 0.1,) for name, (lr,) in before.items()})
    assert wrapper.get_lr()['base_lr'] == pytest.approx([0.01])
    other = make_wrapper(model, dict(type='SGD', lr=0.1), layer_decay_rate=0.5)
    cosine = CosineAnnealingLR(other, T_max=4, eta_min_ratio=0.2)
    for _ in range(4):
        other.optimizer.step()
        cosine.step()
    assert_same(settings(model, other, 'lr'), {name: (lr * 0.2,) for name, (lr,) in before.items()})


def test_a_resumed_run_finds_the_same_groups():
    keys = dict(layer_decay_rate=dict(cnn=0.7, vit=0.5), lr_mult=dict(head=3.0))
    model = make_hybrid()
    wrapper = make_wrapper(model, **keys)
    sum(p.sum() for p in model.parameters()).backward()
    for i, param in enumerate(model.parameters()):
        param.grad.fill_(i)
    wrapper.optimizer.step()
    saved = copy.deepcopy(wrapper.state_dict())
    again = make_hybrid()
    resumed = make_wrapper(again, **keys)
    resumed.load_state_dict(saved)
    for (name, first), (_, second) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(resumed.optimizer.state[second]['exp_avg'], wrapper.optimizer.state[first]['exp_avg']), name
    assert settings(model, wrapper) == settings(again, resumed)


def test_a_wrapped_model_is_unwrapped():
    model = plain()
    assert len(settings(model, make_wrapper(nn.ModuleDict(dict(module=model)), lr_mult=dict(head=2.0)))) == 6


def test_flat_pieces_of_fsdp_are_refused():
    class FullyShardedDataParallel(nn.Linear):
        pass

    with pytest.raises(ValueError, match=r'FullyShardedDataParallel has flattened the parameters.*fully_shard'):
        make_wrapper(nn.Sequential(FullyShardedDataParallel(2, 2)))


def test_works_with_any_wrapper():
    cfg = dict(
        type='OptimWrapper',
        optimizer=dict(type='SGD', lr=0.1),
        clip_grad=dict(max_norm=1.0),
        constructor='hybridcls.HybridOptimWrapperConstructor',
    )
    wrapper = build_optim_wrapper(plain(), cfg)
    assert type(wrapper) is OptimWrapper
    assert wrapper.clip_grad_kwargs
    assert isinstance(make_wrapper(plain()), ComposedOptimWrapper)


def test_works_in_a_config_of_mmpretrain():
    """In its scope, with its ResNet, which tells its layers, and an optimizer of its own."""
    model = MODELS.build(dict(type='mmpretrain.ImageClassifier', backbone=dict(type='mmpretrain.ResNet', depth=50)))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        wrapper = make_wrapper(model, dict(type='Lamb', lr=1.0), layer_decay_rate=0.5)
    found = settings(model, wrapper, 'lr', 'weight_decay')
    depth, count = model.get_layer_depth('backbone.layer2.0.conv1.weight')
    assert 0 < depth < count - 1
    assert found['backbone.layer2.0.conv1.weight'] == (0.5 ** (count - depth - 1), 0.01)
    assert found['backbone.conv1.weight'] == (0.5 ** (count - 1), 0.01)


@pytest.mark.parametrize(
    ('keys', 'error', 'text'),
    [
        (dict(layer_decay=0.5), TypeError, "unknown key 'layer_decay'. Did you mean 'layer_decay_rate'"),
        (dict(layer_decay_rate=0), ValueError, r'expected layer_decay_rate in \(0, 1\], got 0'),
        (dict(layer_decay_rate=1.2), ValueError, r'expected layer_decay_rate in .*, got 1.2'),
        (dict(layer_decay_rate=dict(head=-0.5)), ValueError, r"expected layer_decay_rate\['head'\] in .*, got -0.5"),
        (dict(layer_decay_rate=dict(vit=0.5)), ValueError, "layer_decay_rate names 'vit', which is not a part"),
        (dict(layer_decay_rate=0.5), ValueError, 'for layer_decay_rate, got ModuleDict'),
        (dict(lr_mult=dict(haed=0.5)), ValueError, "'haed', which is not a part of the model. Did you mean 'head'"),
        (dict(lr_mult=dict(head=-1)), ValueError, r"expected lr_mult\['head'\] in .*, got -1"),
        (dict(lr_mult=0.5), TypeError, 'expected lr_mult to be a dict by part, .* got 0.5'),
        (dict(bias_lr_mult='2'), TypeError, 'bias_lr_mult'),
        (dict(norm_decay_mult=-1), ValueError, 'expected norm_decay_mult in .*, got -1'),
        (dict(keep_frozen=1), TypeError, 'expected keep_frozen to be True or False, got 1'),
        (dict(custom_keys=['head']), TypeError, 'expected custom_keys to be a dict of dicts'),
        (dict(custom_keys=dict(head=0.1)), TypeError, 'expected custom_keys to be a dict of dicts'),
        (dict(custom_keys=dict(head=dict(lr_mul=1))), TypeError, "unknown key 'lr_mul'. Did you mean 'lr_mult'"),
        (
            dict(custom_keys=dict(head=dict(decay_mult=-1))),
            ValueError,
            r"\['head'\].decay_mult in .* got -1",
        ),
    ],
)
def test_a_wrong_key_or_number_is_named(keys, error, text):
    with pytest.raises(error, match=text):
        make_wrapper(plain(), **keys)


def test_what_is_no_dict_is_named():
    with pytest.raises(TypeError, match=r'expected paramwise_cfg to be a dict or None, got \[1\]'):
        HybridOptimWrapperConstructor(dict(optimizer=dict(type='SGD', lr=0.1)), [1])
