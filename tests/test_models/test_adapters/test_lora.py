"""LoRA on streams: the formula, who learns, what stays, and that every adapter really acts."""

import copy

import pytest
import timm
import torch
from torch import nn

from hybridcls.models.adapters import LoRASettings, add_lora, lora_layers, merge_lora
from hybridcls.models.adapters.adapters_without_gradient import check_adapters_act
from hybridcls.models.backbones import HybridBackbone

peft = pytest.importorskip('peft', reason="needs PEFT: pip install 'hybridcls[lora]'")

SWIN = dict(
    model_name='swinv2_tiny_window8_256', img_size=32, window_size=4, embed_dim=24, depths=(1, 1), num_heads=(1, 2)
)
MODELS = {
    'vit': dict(model_name='test_vit', img_size=32),
    'deit': dict(model_name='deit_tiny_distilled_patch16_224', img_size=32, depth=2, embed_dim=24, num_heads=2),
    'swin': SWIN,
    'swin v1': dict(
        model_name='swin_tiny_patch4_window7_224',
        img_size=32,
        window_size=4,
        embed_dim=24,
        depths=(1, 1),
        num_heads=(1, 2),
    ),
    'beit': dict(model_name='beit_base_patch16_224', img_size=32, depth=2, embed_dim=24, num_heads=2),
    'eva': dict(model_name='eva02_tiny_patch14_224', img_size=28, depth=2, embed_dim=24, num_heads=2),
    'convnext': dict(model_name='test_convnext'),
    'convnext v2, convolutions': dict(model_name='convnextv2_atto', depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)),
    'efficientnet': dict(model_name='test_efficientnet'),
}


def make(name, **more):
    torch.manual_seed(0)
    model = timm.create_model(**MODELS[name], num_classes=0, **more).eval()
    for module in model.modules():  # fresh Swin V2 and ConvNeXt blocks are (nearly) identities
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
        for gamma in ('gamma', 'gamma_1', 'gamma_2'):
            if isinstance(getattr(module, gamma, None), nn.Parameter):
                nn.init.ones_(getattr(module, gamma))
    return model


def images(name):
    side = MODELS[name].get('img_size', 32)
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('name', MODELS)
def test_it_starts_as_the_model_and_every_adapter_acts(name):
    model, x = make(name), images(name)
    before = model(x)
    side = x.shape[-1]
    done = add_lora(model, LoRASettings(rank=2))
    check_adapters_act('me', model, (3, side, side))
    torch.testing.assert_close(model(x), before, rtol=0, atol=1e-6)
    model.train(False)
    model(x).square().sum().backward()
    layers = lora_layers(model)
    assert set(layers) == set(done.names)
    assert layers
    for layer_name, layer in layers.items():
        assert layer.lora_B['default'].weight.grad.abs().sum() > 0, layer_name
    assert [key for key, param in model.named_parameters() if param.grad is not None and '.lora_' not in key] == []
    assert not any(word in layer_name for layer_name in layers for word in ('patch_embed', 'cpb_mlp', 'stem'))


@pytest.mark.parametrize('name', ['swin', 'beit', 'convnext v2, convolutions', 'vit'])
@pytest.mark.parametrize('kind', ['lora', 'dora', 'rslora'])
def test_the_formula_and_folding(name, kind):
    """W x + alpha / r B A x, written with the weights alone, is what the adapted and the merged model compute."""
    model, x = make(name), images(name)
    reference = copy.deepcopy(model)
    add_lora(model, LoRASettings(rank=2, alpha=6.0, use_dora=kind == 'dora', use_rslora=kind == 'rslora'))
    torch.manual_seed(3)
    for layer in lora_layers(model).values():
        nn.init.normal_(layer.lora_B['default'].weight, std=0.1)
    scale = 6.0 / (2**0.5 if kind == 'rslora' else 2)
    for layer_name, layer in lora_layers(model).items():
        a, b = layer.lora_A['default'].weight.flatten(1), layer.lora_B['default'].weight.flatten(1)
        weight = reference.get_submodule(layer_name).weight
        updated = weight.flatten(1) + scale * b @ a
        if kind == 'dora':  # magnitude (here: of the start) times direction
            updated = weight.flatten(1).norm(dim=1, keepdim=True) * updated / updated.norm(dim=1, keepdim=True)
        weight.data.copy_(updated.view_as(weight))
    expected, adapted = reference(x), model(x)
    torch.testing.assert_close(adapted, expected, rtol=1e-4, atol=1e-5)
    assert (adapted - make(name)(x)).abs().max() > 1e-3

    before = {key: value.clone() for key, value in model.state_dict().items()}
    merged = merge_lora(model)
    assert len(merged) == len([key for key in before if key.endswith('lora_A.weight')])
    torch.testing.assert_close(model(x), adapted, rtol=0, atol=1e-5)
    assert set(model.state_dict()) == set(make(name).state_dict())
    merged.undo()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(model(x), adapted)


@pytest.mark.parametrize('kind', [{}, dict(use_dora=True)], ids=str)
@pytest.mark.parametrize('adapters', [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize(('dtype', 'bits'), [(torch.bfloat16, 8), (torch.float16, 11)], ids=str)
def test_folding_rounds_once_and_gives_the_same_bits_back(dtype, bits, adapters, kind):
    """Against the sum in float64: half a unit in the last place of each weight, and not the sum of two roundings."""
    model = make('convnext v2, convolutions')
    add_lora(model, LoRASettings(rank=2, alpha=6.0, **kind))
    torch.manual_seed(3)
    for layer in lora_layers(model).values():
        nn.init.normal_(layer.lora_B['default'].weight, std=0.1)
    model.to(dtype)
    for key, param in model.named_parameters():
        if '.lora_' in key and adapters != dtype:  # PEFT keeps adapters in float32
            param.data = param.data.float() * (1 + 1e-4)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    exact = copy.deepcopy(model).double()
    merge_lora(exact)
    merged = merge_lora(model)
    for key, value in exact.state_dict().items():
        found = model.state_dict()[key]
        assert found.dtype == dtype
        tiny = torch.finfo(dtype).smallest_normal * 2.0**-bits
        limit = value.abs() * 2.0**-bits * 1.001 + tiny + 1e-6 * value.abs().max()
        assert ((found.double() - value).abs() <= limit).all(), key
    merged.undo()
    for key, value in model.state_dict().items():
        assert value.dtype == before[key].dtype, key
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize('name', ['vit', 'swin', 'convnext v2, convolutions'])
@pytest.mark.parametrize('kind', [{}, dict(use_dora=True), dict(use_rslora=True)], ids=str)
def test_it_is_what_peft_makes_of_the_timm_model(name, kind):
    """Outputs, gradients and the choice of who learns, against PEFT's own get_peft_model with the same numbers."""
    ours, x = make(name), images(name)
    plain = make(name)
    for module in plain.modules():
        if hasattr(module, 'qkv_bias_separate'):  # else PEFT's adapter there would do nothing
            module.qkv_bias_separate = True
    names = add_lora(ours, LoRASettings(rank=2, alpha=6.0, **kind)).names
    theirs = peft.get_peft_model(plain, peft.LoraConfig(r=2, lora_alpha=6.0, target_modules=list(names), **kind))
    their_params = {name.removeprefix('base_model.model.'): param for name, param in theirs.named_parameters()}
    torch.manual_seed(1)
    for param_name, param in ours.named_parameters():
        assert param.requires_grad == their_params[param_name].requires_grad, param_name
        if param.requires_grad:
            param.data += 0.1 * torch.randn_like(param)
        their_params[param_name].data.copy_(param)
    output, expected = ours(x), theirs(x)
    torch.testing.assert_close(output, expected, rtol=0, atol=0)
    output.square().sum().backward()
    expected.square().sum().backward()
    for param_name, param in ours.named_parameters():
        torch.testing.assert_close(param.grad, their_params[param_name].grad, rtol=0, atol=0, msg=param_name)


def test_slices_of_a_deep_copy_stay():
    model = make('vit')
    layer_name = add_lora(model, LoRASettings(rank=2, targets=['q', 'v'])).names[0]
    copied = copy.deepcopy(model)
    copied(images('vit')).square().sum().backward()
    parts = copied.get_submodule(layer_name).lora_B['default'].weight.grad.chunk(3)
    assert [bool(part.abs().sum() > 0) for part in parts] == [True, False, True]


def test_slices_of_a_fused_qkv():
    model, x = make('vit'), images('vit')
    done = add_lora(model, LoRASettings(rank=2, targets=['q', 'v']))
    whole = add_lora(make('vit'), LoRASettings(rank=2, targets=['qkv']))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    base, rows = make('vit'), 0
    merged = merge_lora(model)
    for layer_name in done.names:
        after, before = model.get_submodule(layer_name).weight, base.get_submodule(layer_name).weight
        third = len(before) // 3
        changed = [
            (after[i * third : (i + 1) * third] - before[i * third : (i + 1) * third]).abs().max() for i in range(3)
        ]
        assert changed[0] > 1e-4
        assert changed[1] == 0
        assert changed[2] > 1e-4
        rows += third
    assert whole.trained - done.trained == rows * 2  # the rank
    merged.undo()


def test_state_dicts_have_the_names_of_before():
    model = make('swin')
    names = list(model.state_dict())
    add_lora(model, LoRASettings(rank=2, targets=['attn.proj']))
    adapted = model.state_dict()
    extra = [key for key in adapted if key not in names]
    assert set(names) <= set(adapted)
    assert extra[:2] == ['layers.0.blocks.0.attn.proj.lora_A.weight', 'layers.0.blocks.0.attn.proj.lora_B.weight']
    other = make('swin')
    add_lora(other, LoRASettings(rank=2, targets=['attn.proj']))
    changed = {key: torch.randn_like(value) if value.is_floating_point() else value for key, value in adapted.items()}
    other.load_state_dict(changed)
    assert all(torch.equal(value, changed[key]) for key, value in other.state_dict().items())
    # Of a model without adapters everything but the adapters is found.
    result = other.load_state_dict(make('swin').state_dict(), strict=False)
    assert all('.lora_' in key for key in result.missing_keys)
    assert result.unexpected_keys == []


def test_what_is_frozen_is_frozen():
    backbone = HybridBackbone(
        cnn=dict(model_name='test_efficientnet'),
        vit=MODELS['vit'],
        img_size=32,
        use_cbam=True,
        token_learner_tokens=2,
        lora_rank=2,
    )
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1, weight_decay=0.5)
    backbone.train()
    for _ in range(2):
        optimizer.zero_grad()
        sum(feature.square().sum() for feature in backbone(torch.rand(2, 3, 32, 32))).backward()
        optimizer.step()
    moved = {key for key, value in backbone.state_dict().items() if not torch.equal(value, before[key])}
    assert moved
    assert all('.lora_' in key or key.startswith(('cbam', 'token_learner')) for key in moved)
    assert {'cbam', 'token_learner', 'cnn', 'vit'} == {key.split('.')[0] for key in moved}


def test_norms_may_be_trained_and_streams_differ():
    backbone = HybridBackbone(
        cnn=dict(model_name='test_convnext'),
        vit=MODELS['vit'],
        img_size=32,
        lora_rank=dict(rank=2, train_norms=True, vit=dict(rank=4, targets=r'blocks\.0\.mlp\.fc\d')),
        lora_alpha=8.0,
    )
    cnn, vit = lora_layers(backbone.cnn.model), lora_layers(backbone.vit.model)
    assert {len(layer.lora_A['default'].weight) for layer in cnn.values()} == {2}
    assert list(vit) == ['blocks.0.mlp.fc1', 'blocks.0.mlp.fc2']
    assert {layer.scaling['default'] for layer in vit.values()} == {2.0}
    assert backbone.vit.model.norm.weight.requires_grad
    assert not backbone.vit.model.blocks[1].attn.qkv.weight.requires_grad
    alone = HybridBackbone(
        cnn=dict(model_name='test_convnext'), vit=MODELS['vit'], img_size=32, lora_rank=dict(rank=2, cnn=None)
    )
    assert all(param.requires_grad for param in alone.cnn.parameters())


def test_the_reference_pair_trains_under_two_percent():
    with torch.device('meta'):
        backbone = HybridBackbone(
            cnn=dict(model_name='convnextv2_base'),
            vit=dict(model_name='swinv2_base_window12_192'),
            img_size=192,
            lora_rank=8,
        )
    trained = sum(param.numel() for param in backbone.parameters() if param.requires_grad)
    assert 0 < trained / sum(param.numel() for param in backbone.parameters()) < 0.02


def test_checkpointed_activations_give_the_same_gradients():
    grads = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        backbone = HybridBackbone(
            vit=dict(MODELS['vit'], drop_path_rate=0.0), img_size=32, lora_rank=2, with_cp=with_cp
        )
        backbone.train()
        backbone(images('vit'))[0].square().sum().backward()
        grads.append({key: param.grad for key, param in backbone.named_parameters() if param.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for key, grad in grads[0].items():
        torch.testing.assert_close(grads[1][key], grad)


@pytest.mark.parametrize(
    ('keys', 'sentence'),
    [
        (dict(lora_rank=-1), 'expected lora_rank in .*, got -1'),
        (dict(lora_rank=1000), 'lora_rank=1000 exceeds the smaller side of'),
        (
            dict(lora_rank=dict(rank=2, targets=['qvk'])),
            r"no layer matches 'qvk'.*Did you mean 'qkv'.*attn.qkv \(\d+\)",
        ),
        (dict(lora_rank=dict(rank=2, targets='nothing')), 'no layer matches targets'),
        (dict(lora_rank=dict(rank=2, targets='(')), 'no regular expression'),
        (dict(lora_rank=dict(rank=2, dropout=1.0)), 'expected dropout in .*, got 1.0'),
        (dict(lora_rank=dict(rank=2, rnk=2)), "unknown key 'rnk'"),
        (dict(lora_rank=dict(vit=dict(alpha=2.0))), 'lacks the key rank'),
        (dict(lora_rank=2, lora_alpha=0.0), 'expected lora_alpha in .*, got 0.0'),
        (dict(lora_rank=dict(rank=2, checkpoint='adapters')), 'starts from random ones, which would be lost'),
        (dict(lora_rank=dict(rank=2, targets=['q', 'v'], use_dora=True)), 'Give targets=..qkv.., or drop use_dora'),
        (dict(lora_rank=dict(rank=2, targets=r'blocks\.0\.norm1')), 'is a LayerNorm, which LoRA cannot adapt'),
    ],
)
def test_what_cannot_be_adapted(keys, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        HybridBackbone(vit=MODELS['vit'], img_size=32, **keys)


def test_an_adapter_that_would_never_act_is_an_error():

    class Direct(nn.Module):
        """Uses a layer's weight without calling the layer."""

        def __init__(self):
            super().__init__()
            self.called, self.used = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return nn.functional.linear(self.called(x.mean((2, 3))), self.used.weight)

    model = Direct()
    add_lora(model, LoRASettings(rank=1))
    with pytest.raises(ValueError, match=r'1 adapted layers are never called .*: used\. Leave them out'):
        check_adapters_act('me', model, (3, 4, 4))


def test_a_token_learner_inside_of_the_stream_is_left_alone():
    backbone = HybridBackbone(
        vit=dict(MODELS['vit'], drop_path_rate=0.0),
        img_size=32,
        lora_rank=2,
        token_learner_tokens=dict(num_tokens=2, after_block=3),
    )
    backbone(images('vit'))[0].square().sum().backward()
    trained = {name for name, param in backbone.named_parameters() if param.requires_grad}
    assert {name for name in trained if 'lora_' not in name} == {
        f'token_learner.{name}' for name, _ in backbone.token_learner.named_parameters()
    }
    assert all(backbone.get_parameter(name).grad is not None for name in trained)
