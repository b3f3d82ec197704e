from inspect import signature

import pytest
import torch
from fidelity_checks import assert_faithful
from torch import nn

from hybridcls.apis.fidelity.stage_cases import TRAININGS
from hybridcls.distributed.layouts import Shards
from hybridcls.engine.optim import ComposedOptimWrapper, GradientCentralization, Update
from hybridcls.engine.optim.update.parameter_names import named_owners


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(4, 12)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
        self.lora_A = nn.Linear(4, 2, bias=False)
        self.lora_B = nn.Linear(2, 12, bias=False)


class ArcFaceHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(5, 4))


class Zoo(nn.Module):
    """Every kind of parameter."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)
        self.depthwise_1x1 = nn.Conv2d(4, 4, 1, groups=4)
        self.transposed = nn.ConvTranspose2d(4, 6, 2)
        self.norm = nn.LayerNorm([4, 4])
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 4))
        self.embedding = nn.Embedding(7, 4)
        self.attention = Attention()
        self.mha = nn.MultiheadAttention(4, 2)
        self.scalar_in = nn.Linear(1, 4)
        self.fc = nn.Linear(4, 5)
        self.head = ArcFaceHead()
        self.matmul = nn.Parameter(torch.zeros(4, 6))  # used as x @ matmul: outputs on axis 1


def make_update(zoo, weight_decay=0.0, optimizer=None):
    generator = torch.Generator().manual_seed(0)
    for param in zoo.parameters():
        param.data = torch.randn(param.shape, generator=generator, dtype=torch.float64)
        param.grad = torch.randn(param.shape, generator=generator, dtype=torch.float64)
    if optimizer is None:
        optimizer = torch.optim.SGD(zoo.parameters(), lr=1.0, weight_decay=weight_decay)
    params = list(zoo.parameters())
    names, owners = named_owners(params, zoo)
    return Update(optimizer, params, names, owners)


def changed(**options):
    """Names of the parameters whose gradient is changed, with the axes over which its mean is 0 then."""
    zoo = Zoo()
    stage, update = GradientCentralization(**options), make_update(zoo)
    before = {name: param.grad.clone() for name, param in zoo.named_parameters()}
    stage.start(update)
    with torch.no_grad():
        stage.before_step(update)
    found = {}
    for name, param in zoo.named_parameters():
        if not torch.equal(param.grad, before[name]):
            zero = [
                axis
                for axis, size in enumerate(param.shape)
                if (size > 1 or axis == 0) and param.grad.transpose(0, axis).flatten(1).mean(1).abs().max() < 1e-12
            ]
            found[name] = zero
            assert len(zero) == 1, name
            axes = [axis for axis in range(param.dim()) if axis != zero[0]]
            torch.testing.assert_close(param.grad, before[name] - before[name].mean(axes, keepdim=True))
    return {name: zero[0] for name, zero in found.items()}


CONVS = {'conv.weight': 0, 'depthwise.weight': 0, 'transposed.weight': 1}
LINEARS = {'attention.qkv.weight': 0, 'mha.in_proj_weight': 0, 'mha.out_proj.weight': 0, 'fc.weight': 0}


def test_weights_of_layers_are_centralised_each_over_its_inputs():
    assert changed() == {**CONVS, **LINEARS}


def test_convolutions_only():
    assert changed(layers='conv') == CONVS


class BroadcastScale(nn.Module):
    def __init__(self, units):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(units, 3, 2, 2))


@pytest.mark.parametrize(('units', 'is_matrix'), [(1, False), (4, True)])
def test_a_scale_over_the_batch_is_no_weight_of_units(units, is_matrix):
    layer = BroadcastScale(units)
    stage, update = GradientCentralization(), make_update(layer)
    stage.start(update)
    before = layer.weight.grad.clone()
    with torch.no_grad():
        stage.before_step(update)
    assert torch.equal(layer.weight.grad, before) != is_matrix


@pytest.mark.parametrize('case', [name for name in TRAININGS if name.startswith('GradientCentralization')])
def test_official_numbers(case):
    assert_faithful(case)


def test_the_mean_of_a_unit_stays_through_updates_that_are_centralized():
    torch.manual_seed(0)
    layer = nn.Linear(5, 3)
    mean, bias = layer.weight.detach().mean(1), layer.bias.detach().clone()
    wrapper = ComposedOptimWrapper(
        torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.5),
        stages=dict(gc=dict(type='GradientCentralization', on='update')),
    )
    before = layer.weight.detach().clone()
    for _ in range(3):
        wrapper.update_params(layer(torch.rand(4, 5)).square().sum())
    torch.testing.assert_close(layer.weight.detach().mean(1), mean)
    assert (layer.weight - before).abs().max() > 0.04
    assert (layer.bias - bias).abs().max() > 0.1


def test_an_update_has_its_decay_already():
    with pytest.raises(ValueError, match="with_weight_decay=True belongs to on='gradient'"):
        GradientCentralization(with_weight_decay=True, on='update')
    with pytest.raises(ValueError, match=r"expected on to be one of .*, got 'step'"):
        GradientCentralization(on='step')


def test_what_is_left_out_is_centralised_when_asked():
    assert changed(include=['lora_', 'head', 'pos_embed', 'embedding']) == {
        **CONVS,
        **LINEARS,
        'attention.lora_A.weight': 0,
        'attention.lora_B.weight': 0,
        'head.weight': 0,
        'embedding.weight': 0,
        'pos_embed': 0,
    }


def test_more_is_left_out_when_asked():
    assert changed(exclude=['attention', r'^fc\.']) == {
        name: axis for name, axis in {**CONVS, **LINEARS}.items() if 'attention' not in name and name != 'fc.weight'
    }


def test_another_output_axis_can_be_told():
    assert changed(output_axis={'matmul': 1}) == {**CONVS, **LINEARS, 'matmul': 1}
    with pytest.raises(ValueError, match='output_axis 2 is given for matmul, which has 2 axes'):
        changed(output_axis={'matmul': 2})


def test_the_official_sgd_centralises_the_decay_too():
    """SGD.py of the official repository: g + wd * w first, then its mean is taken away."""
    decay = 0.3
    zoo = Zoo()
    update = make_update(zoo, decay)
    expected = {}
    for name, param in zoo.named_parameters():
        grad = param.grad + decay * param.detach()
        if name in ('fc.weight', 'conv.weight'):
            grad = grad - grad.flatten(1).mean(1).view(-1, *[1] * (grad.dim() - 1))
        expected[name] = param.detach() - grad
    stage = GradientCentralization(with_weight_decay=True)
    stage.start(update)
    with torch.no_grad():
        stage.before_step(update)
    update.optimizer.step()
    for name in ('fc.weight', 'conv.weight', 'fc.bias', 'pos_embed'):
        torch.testing.assert_close(dict(zoo.named_parameters())[name].detach(), expected[name])


@pytest.mark.parametrize(
    'make',
    [
        lambda params: torch.optim.AdamW(params, weight_decay=0.1),
        pytest.param(
            lambda params: torch.optim.Adam(params, weight_decay=0.1, decoupled_weight_decay=True),
            marks=pytest.mark.skipif(
                'decoupled_weight_decay' not in signature(torch.optim.Adam).parameters, reason='torch 2.6 has none'
            ),
        ),
    ],
)
def test_decoupled_decay_is_not_part_of_the_gradient(make):
    zoo = Zoo()
    update = make_update(zoo, optimizer=make(zoo.parameters()))
    with pytest.raises(ValueError, match='needs an optimizer that adds the decay to the gradient, got Adam'):
        GradientCentralization(with_weight_decay=True).start(update)


def test_it_comes_after_clipping():
    """The gradient that is clipped is the whole one; what is stepped with has no mean."""
    layer = nn.Linear(3, 2, bias=False)
    weight = layer.weight.detach().clone()
    wrapper = ComposedOptimWrapper(
        torch.optim.SGD(layer.parameters(), lr=1.0),
        clip_grad=dict(max_norm=1.0),
        stages=dict(gc=dict(type='GradientCentralization')),
    )
    grad = torch.tensor([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    wrapper.update_params((layer.weight * grad).sum())
    expected = grad / 5 - (grad / 5).mean(1, keepdim=True)
    torch.testing.assert_close(weight - layer.weight.detach(), expected, rtol=1e-5, atol=1e-6)


def test_parameters_without_gradient_are_passed_over():
    zoo = Zoo()
    stage, update = GradientCentralization(), make_update(zoo)
    stage.start(update)
    zoo.conv.weight.grad = None  # the first of those it chose, so that all others are one place further
    before = zoo.fc.weight.grad.clone()
    with torch.no_grad():
        stage.before_step(update)
    assert zoo.conv.weight.grad is None
    torch.testing.assert_close(zoo.fc.weight.grad, before - before.mean(1, keepdim=True))
    zoo.zero_grad()
    stage.before_step(update)
    assert all(param.grad is None for param in zoo.parameters())


def test_patterns_that_cannot_be():
    with pytest.raises(ValueError, match=r"the pattern 'qvk' matches no parameter. Names look like 'cls_token'"):
        changed(exclude=['qvk'])
    with pytest.raises(ValueError, match=r"expected regular expressions in exclude, got '\('"):
        GradientCentralization(exclude=['('])
    with pytest.raises(TypeError, match=r"expected include to be a list, \['fc'\]"):
        GradientCentralization(include='fc')
    with pytest.raises(ValueError, match=r"expected layers to be one of .*, got 'convs'"):
        GradientCentralization(layers='convs')


def test_flat_pieces_have_no_output_units():
    update = make_update(Zoo())
    update.shards = Shards()
    update.shards.is_fsdp1 = True
    with pytest.raises(ValueError, match=r'has flattened the parameters.*Use FSDP2'):
        GradientCentralization().start(update)
