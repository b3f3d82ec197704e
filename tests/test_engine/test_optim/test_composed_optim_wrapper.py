"""The optimizer wrapper with stages, against plain torch."""

import copy
import importlib
import math
import sys
import textwrap

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn
from update_toys import HardNet, assert_same, make_batches, make_net, sgd, train

from hybridcls.engine.optim import ComposedOptimWrapper, NonFiniteLossError, UpdateStage

CLIP = dict(max_norm=0.1)


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(clip_grad=CLIP),
        dict(accumulative_counts=3),
        dict(clip_grad=dict(type='value', clip_value=0.01)),
        dict(clip_grad=dict(max_norm=0.1, norm_type=float('inf')), accumulative_counts=2),
    ],
    ids=str,
)
def test_without_stages_it_is_the_wrapper_of_mmengine(options):
    """Eight batches are no multiple of three: the last update has two."""
    plain, own = make_net(), make_net()
    torch.manual_seed(0)
    expected = train(plain, OptimWrapper(sgd(plain), **copy.deepcopy(options)), make_batches(8))
    torch.manual_seed(0)
    found = train(own, ComposedOptimWrapper(sgd(own), **options), make_batches(8))
    assert found == expected
    assert_same(own, plain)


def test_the_norm_of_the_gradient_is_logged():
    net = make_net(dropout=0.0)
    batch = make_batches(1)[0]
    loss = net.parse_losses(net(**batch))[0]
    grads = torch.autograd.grad(loss, [p for p in net.parameters() if p.requires_grad], allow_unused=True)
    expected = math.sqrt(sum(grad.square().sum().item() for grad in grads if grad is not None))
    net = make_net(dropout=0.0)
    train(net, ComposedOptimWrapper(sgd(net), clip_grad=CLIP), [batch])
    logged = MessageHub.get_current_instance().get_scalar('train/grad_norm').current()
    assert logged == pytest.approx(expected, rel=1e-5)


def test_it_is_built_from_a_config_whose_child_switches_a_stage_off_and_changes_a_number(tmp_path):
    (tmp_path / 'base.py').write_text(
        textwrap.dedent("""
        optim_wrapper = dict(
            type='ComposedOptimWrapper', optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05),
            stages=dict(sam=dict(type='SAM', rho=0.05), gc=dict(type='GradientCentralization'),
                        lookahead=dict(type='Lookahead', k=5, alpha=0.5)),
            amp='bfloat16', clip_grad=dict(max_norm=5.0), accumulative_counts=2)
        """)
    )
    (tmp_path / 'child.py').write_text(
        "_base_ = 'base.py'\noptim_wrapper = dict(stages=dict(sam=None, lookahead=dict(k=7)))\n"
    )
    net = make_net()
    wrappers = []
    for name in ('base', 'child'):
        with DefaultScope.overwrite_default_scope('hybridcls'):
            wrappers.append(build_optim_wrapper(net, Config.fromfile(tmp_path / f'{name}.py').optim_wrapper))
    base, child = wrappers
    assert list(base.stages) == ['sam', 'gc', 'lookahead']
    assert list(child.stages) == ['gc', 'lookahead']
    assert (base.stages['lookahead'].k, child.stages['lookahead'].k, child.stages['lookahead'].alpha) == (5, 7, 0.5)
    assert 'Lookahead(k=7' in repr(child)
    assert 'bfloat16' in repr(child)


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmengine', None])
def test_configs_of_other_packages_name_it(scope):
    cfg = ConfigDict(
        type='hybridcls.ComposedOptimWrapper', optimizer=dict(type='SGD', lr=0.1), stages=dict(sam=dict(type='SAM'))
    )
    with DefaultScope.overwrite_default_scope(scope):
        assert build_optim_wrapper(make_net(), cfg).stages['sam'].rho == 0.05


PLUGIN = '''
    import torch
    from hybridcls.engine.optim import UpdateStage
    from hybridcls.registry import OPTIM_STAGES

    @OPTIM_STAGES.register_module(force=True)
    class SignMomentum(UpdateStage):
        """A momentum of signs, kept in the checkpoint."""
        tensor_state = ('average', )

        def __init__(self, beta):
            self.beta = beta
            self.average = {}

        def before_step(self, update):
            for i in update.with_gradient():
                grad = update.params[i].grad
                average = self.average.setdefault(i, torch.zeros_like(grad))
                average.lerp_(grad.sign(), 1 - self.beta)
                grad.copy_(average)
    '''


def test_stages_and_clipping_see_gradients_without_the_loss_scale():
    seen = []

    class Look(UpdateStage):
        def before_step(self, update):
            seen.append(update.params[0].grad.clone())

    for scale in (1.0, 1024.0):
        layer = nn.Linear(2, 1, bias=False)
        nn.init.ones_(layer.weight)
        wrapper = ComposedOptimWrapper(
            torch.optim.SGD(layer.parameters(), lr=0.1),
            stages=[Look()],
            amp='float16',
            loss_scale=scale,
            clip_grad=dict(max_norm=10.0),
        )
        with wrapper.optim_context(layer):
            loss = layer(torch.tensor([[3.0, 4.0]])).sum()
        wrapper.update_params(loss)
    torch.testing.assert_close(seen, [torch.tensor([[3.0, 4.0]])] * 2)  # of norm 5: not clipped


def test_a_stage_of_ones_own_takes_twenty_lines(tmp_path, monkeypatch):
    (tmp_path / 'sign_momentum_plugin.py').write_text(textwrap.dedent(PLUGIN))
    assert len(textwrap.dedent(PLUGIN).strip().splitlines()) <= 20
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module('sign_momentum_plugin')
    sys.modules.pop('sign_momentum_plugin')

    def make():
        net = make_net(dropout=0.0)
        return net, ComposedOptimWrapper(sgd(net), stages=dict(mine=dict(type='SignMomentum', beta=0.9)))

    straight, wrapper = make()
    train(straight, wrapper, make_batches(4))
    net, wrapper = make()
    train(net, wrapper, make_batches(4)[:2], total=4)
    resumed, other = make()
    resumed.load_state_dict(net.state_dict())
    other.load_state_dict(copy.deepcopy(wrapper.state_dict()))
    train(resumed, other, make_batches(4)[2:], start=2, total=4)
    assert_same(resumed, straight)
    with pytest.raises(TypeError, match=r"SignMomentum \(stages.mine\): unknown key 'betta'.*beta"):
        ComposedOptimWrapper(sgd(net), stages=dict(mine=dict(type='SignMomentum', betta=0.9)))


def test_a_stage_learns_which_micro_batch_it_sees():
    seen = []

    class Spy(UpdateStage):
        has_second_pass = True

        def second_pass(self, update):
            seen.append(('second_pass', update.is_first, update.is_last, update.count))

        def before_step(self, update):
            seen.append(('before_step', update.is_last, update.count))

        def after_step(self, update):
            seen.append(('after_step', update.is_last, update.count))

    net = make_net()
    train(net, ComposedOptimWrapper(sgd(net), stages=[Spy()], accumulative_counts=2), make_batches(3))
    assert seen == [
        ('second_pass', True, False, 0),
        ('second_pass', False, True, 0),
        ('before_step', True, 0),
        ('after_step', True, 1),
        ('second_pass', True, True, 1),
        ('before_step', True, 1),
        ('after_step', True, 2),
    ]


def test_names_and_owners_of_parameters_reach_the_stages():
    class Spy(UpdateStage):
        def start(self, update):
            self.names, self.owners = update.names, update.owners

    net, spy = make_net(), Spy()
    train(net, ComposedOptimWrapper(sgd(net), stages=[spy]), make_batches(1))
    assert spy.names == [name for name, _ in net.named_parameters()]
    assert spy.owners[spy.names.index('conv.weight')] is net.conv


def test_without_optim_context_there_is_no_second_pass():
    net = make_net()
    wrapper = ComposedOptimWrapper(sgd(net), stages=dict(sam=dict(type='SAM')))
    with pytest.raises(RuntimeError, match='expected the model to be called in optim_context, as SAM must know'):
        wrapper.update_params(net.parse_losses(net(**make_batches(1)[0]))[0])
    # stages that need no second pass do without it
    wrapper = ComposedOptimWrapper(sgd(net), stages=dict(gc=dict(type='GradientCentralization')))
    wrapper.update_params(net.parse_losses(net(**make_batches(1)[0]))[0])
    assert wrapper.updates == 1


@pytest.mark.parametrize(
    ('options', 'error', 'text'),
    [
        (dict(accumulative_counts=0), ValueError, r'expected accumulative_counts in \[1, inf\), got 0'),
        (dict(stages=dict(sam=dict(type='SAM', rho=-0.1))), ValueError, r'SAM: expected rho in \[0, inf\), got -0.1'),
        (dict(stages=dict(l=dict(type='Lookahead', k=0))), ValueError, r'Lookahead: expected k in \[1, inf\), got 0'),
        (
            dict(stages=dict(l=dict(type='Lookahead', alpha=1.5))),
            ValueError,
            r'Lookahead: expected alpha in \[0, 1\], got 1.5',
        ),
        (dict(stages=dict(l=dict(type='Lookahead', alpha=-0.5))), ValueError, r'expected alpha in \[0, 1\], got -0.5'),
        (
            dict(stages=dict(a=dict(type='SAM'), b=dict(type='SAM', adaptive=True))),
            ValueError,
            r"stages.a \(SAM\) and stages.b \(SAM\) are both of the kind 'sharpness'.*stages=dict\(b=None\)",
        ),
        (
            dict(stages=dict(sam=dict(type='SAM', radius=0.1))),
            TypeError,
            r"SAM \(stages.sam\): unknown key 'radius'.*rho",
        ),
        (dict(stages=dict(type='SAM')), TypeError, 'expected stages to be a dict of named stages, got one stage'),
        (dict(stages=dict(sam=dict(type='Sam'))), KeyError, "Did you mean 'SAM'"),
        (
            dict(nonfinite_loss='halt'),
            ValueError,
            r"nonfinite_loss to be one of \['raise', 'skip', 'ignore'\], got 'halt'",
        ),
        (dict(clip_grad=dict(norm=1.0)), TypeError, r"unknown key 'norm'"),
        (dict(amp='float17'), ValueError, "expected amp to be one of 'float16'.*, got 'float17'"),
    ],
    ids=str,
)
def test_bad_input_is_answered_when_the_wrapper_is_built(options, error, text):
    with pytest.raises(error, match=text):
        ComposedOptimWrapper(sgd(make_net()), **options)


def test_an_unknown_key_of_the_wrapper():
    with pytest.raises(TypeError, match='stage'):
        ComposedOptimWrapper(sgd(make_net()), stage=dict())


def test_a_model_that_learns_nothing():
    net = make_net()
    wrapper = ComposedOptimWrapper(sgd(net), stages=dict(sam=dict(type='SAM')))
    for param in net.parameters():
        param.requires_grad_(False)
    with pytest.raises(ValueError, match=r'expected a parameter that needs a gradient, got \d+ .*Unfreeze'):
        wrapper.initialize_count_status(net, 0, 1)


def test_a_non_finite_loss_stops_before_anything_happens_to_the_weights():
    net = make_net()
    wrapper = ComposedOptimWrapper(sgd(net), stages=dict(sam=dict(type='SAM'), gc=dict(type='GradientCentralization')))
    batches = make_batches(3)
    train(net, wrapper, batches[:2], total=3)
    before = copy.deepcopy([param.detach().clone() for param in net.parameters()])
    batches[2]['inputs'][0, 0, 0, 0] = math.nan
    with pytest.raises(NonFiniteLossError, match=r'iteration 3: loss_class = nan, loss_size = nan'):
        train(net, wrapper, batches[2:], start=2, total=3)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert all(param.grad is None for param in net.parameters())


@pytest.mark.parametrize('accumulation', [1, 2])
def test_a_non_finite_loss_can_be_skipped_with_all_it_has_done(accumulation):
    """Weights and running statistics go on as if the update with the bad batch had not been."""
    stages = dict(sam=dict(type='SAM'), lookahead=dict(type='Lookahead', k=2))
    batches = make_batches(4 * accumulation)
    bad = copy.deepcopy(batches[accumulation : 2 * accumulation])
    for batch in bad:
        batch['inputs'][0] = math.inf
    with_bad, without = make_net(dropout=0.0), make_net(dropout=0.0)
    wrapper = ComposedOptimWrapper(
        sgd(with_bad), stages=stages, nonfinite_loss='skip', accumulative_counts=accumulation
    )
    train(with_bad, wrapper, batches[:accumulation] + bad + batches[accumulation:])
    assert wrapper.updates == 4
    train(without, ComposedOptimWrapper(sgd(without), stages=stages, accumulative_counts=accumulation), batches)
    assert_same(with_bad, without)


def test_too_many_non_finite_losses_in_a_row_stop():
    net = make_net()
    wrapper = ComposedOptimWrapper(sgd(net), nonfinite_loss='skip', max_skipped_updates=2)
    batches = make_batches(3)
    for batch in batches:
        batch['inputs'][0] = math.nan
    with pytest.raises(NonFiniteLossError, match='number 3 in a row, and max_skipped_updates=2'):
        train(net, wrapper, batches)
    assert wrapper.updates == 0


def test_a_good_update_ends_what_is_in_a_row():
    net = make_net()
    wrapper = ComposedOptimWrapper(sgd(net), nonfinite_loss='skip', max_skipped_updates=1)
    batches = make_batches(6)
    for batch in batches[::2]:
        batch['inputs'][0] = math.nan
    train(net, wrapper, batches)
    assert wrapper.updates == 3


class Cliff(HardNet):
    """The second call of the model gives an infinite loss."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        losses = super().forward(inputs, data_samples, mode)
        if len(self.seen) == 2:
            losses['loss_size'] = losses['loss_size'] / 0.0
        return losses


def test_a_non_finite_loss_in_the_second_pass_leaves_the_weights_alone():
    torch.manual_seed(3)
    net = Cliff()
    before = [param.detach().clone() for param in net.parameters()]
    wrapper = ComposedOptimWrapper(sgd(net), stages=dict(sam=dict(type='SAM')))
    with pytest.raises(NonFiniteLossError, match=r'iteration 1: loss_size = inf .* at the weights of the second pass'):
        train(net, wrapper, make_batches(1))
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    net.seen.clear()
    wrapper = ComposedOptimWrapper(sgd(net), stages=dict(sam=dict(type='SAM')), nonfinite_loss='skip')
    train(net, wrapper, make_batches(2))
    assert wrapper.updates == 1


def test_a_stage_learns_that_its_second_loss_was_bad_and_takes_no_state_from_it():
    class Look(UpdateStage):
        def __init__(self):
            self.seen = []

        def needs_second_pass(self, update):
            return True

        def second_pass(self, update):
            loss = update.recompute_gradient()
            self.seen.append((update.is_dropped, bool(loss.isfinite()), len(update.with_gradient())))

    torch.manual_seed(3)
    net, look = Cliff(), Look()
    train(net, ComposedOptimWrapper(sgd(net), stages=[look], nonfinite_loss='skip'), make_batches(2))
    assert look.seen == [(True, False, 0), (False, True, 6)]

    net.seen.clear()
    hub = MessageHub.get_current_instance()
    hub.log_scalars.pop('train/sam/ascent_loss', None)
    stages = dict(sam=dict(type='SAM', every=2, reuse=True, log=True))
    wrapper = ComposedOptimWrapper(sgd(net), stages=stages, nonfinite_loss='skip')
    train(net, wrapper, make_batches(1))
    assert not wrapper.stages['sam'].direction
    assert 'train/sam/ascent_loss' not in hub.log_scalars
    train(net, wrapper, make_batches(2))
    assert wrapper.updates == 2
    assert all(param.isfinite().all() for param in net.parameters())


class PlainNet(BaseModel):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=self.net(inputs).square().mean())


def train_plain_net(compiled_with=None, **options):
    net = PlainNet()
    if compiled_with is not None:
        net.train_step = torch.compile(net.train_step, backend=compiled_with)  # as mmengine's Runner does
    groups = [dict(params=list(module.parameters())) for module in net.net if list(module.parameters())]
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(5)
    train(
        net,
        ComposedOptimWrapper(torch.optim.AdamW(groups, lr=0.02), **options),
        [dict(inputs=torch.randn(5, 3, generator=generator)) for _ in range(6)],
    )
    return net


EVERYTHING = dict(
    stages=[dict(type='SAM'), dict(type='GradientCentralization'), dict(type='Lookahead', k=2)],
    amp='bfloat16',
    accumulative_counts=2,
    clip_grad=CLIP,
)


@pytest.mark.parametrize(
    ('backend', 'options'),
    [('eager', {}), ('eager', EVERYTHING), ('aot_eager', EVERYTHING)],
    ids=['plain', 'all', 'aot'],
)
def test_it_trains_a_model_compiled_by_the_runner(backend, options):
    assert_same(train_plain_net(backend, **options), train_plain_net(**options), atol=1e-6)


def test_both_passes_of_a_compiled_model_are_compiled_once_and_nothing_else_is():
    """Compiled code may draw other random numbers than eager code, and SAM needs the same dropout masks twice."""
    compiled, calls = [], []

    def backend(graph, inputs):
        is_model = torch.nn.functional.batch_norm in [node.target for node in graph.graph.nodes]
        compiled.append(is_model)

        def call(*args):
            calls.append(is_model)
            return graph(*args)

        return call

    train_plain_net(backend, stages=[dict(type='SAM'), dict(type='Lookahead', k=2)])
    assert compiled.count(True) == 1
    assert calls.count(True) == 12
    assert len(compiled) <= 3  # beside the model, the sum of its losses


def test_a_part_that_is_replaced_before_training_goes_on_is_watched():
    """The second pass of SAM must not move the statistics of a BatchNorm that was not there in the first training."""
    net = make_net()
    wrapper = ComposedOptimWrapper(sgd(net), stages=dict(sam=dict(type='SAM')))
    train(net, wrapper, make_batches(1))
    net.bn = nn.BatchNorm2d(3, affine=False)
    train(net, wrapper, make_batches(1))
    assert net.bn.num_batches_tracked == 1


def test_parameters_that_are_added_later_get_a_place():
    net = make_net()
    wrapper = ComposedOptimWrapper(sgd(net), stages=dict(lookahead=dict(type='Lookahead', k=1)))
    train(net, wrapper, make_batches(1))
    net.extra = nn.Parameter(torch.ones(2))
    wrapper.optimizer.add_param_group(dict(params=[net.extra]))
    train(net, wrapper, make_batches(1))
    assert torch.equal(wrapper.stages['lookahead'].slow[len(list(net.parameters())) - 1], net.extra)
