"""The contract of a stage: what is derived from the class, and what is refused before a checkpoint is written."""

import pytest
import torch
from update_toys import make_batches, make_net, sgd, train

from hybridcls.engine.optim import SAM, ComposedOptimWrapper, Lookahead, UpdateStage


class Halve(UpdateStage):
    """Says nowhere that it has_second_pass."""

    def second_pass(self, update):
        for i in update.with_gradient():
            update.params[i].grad.mul_(0.5)


class HalveAgain(Halve):
    pass


class Mixed(type('Mixin', (), dict(second_pass=Halve.second_pass)), UpdateStage):
    pass


@pytest.mark.parametrize('kind', [Halve, HalveAgain, Mixed])
def test_a_stage_that_overrides_probe_is_called(kind):
    """Half the gradient is half the rate, for plain SGD."""
    halved, expected = make_net(), make_net()
    torch.manual_seed(0)
    train(halved, ComposedOptimWrapper(torch.optim.SGD(halved.parameters(), lr=0.5), stages=[kind()]), make_batches(2))
    torch.manual_seed(0)
    train(expected, ComposedOptimWrapper(torch.optim.SGD(expected.parameters(), lr=0.25)), make_batches(2))
    torch.testing.assert_close(halved.state_dict(), expected.state_dict(), rtol=0, atol=0)


def test_which_stages_probe():
    assert SAM.has_second_pass
    assert not Lookahead.has_second_pass
    assert not UpdateStage.has_second_pass
    assert not type('Off', (Halve,), dict(has_second_pass=False)).has_second_pass


class Remember(UpdateStage):
    """Keeps something of each gradient, from the moment that is named."""

    tensor_state = ('kept',)

    def __init__(self, moment, what):
        self.kept, self.what = {}, what
        setattr(self, moment, self.remember)

    def remember(self, update):
        self.kept.update({self.what[0]: self.what[1](update.params[0])})


@pytest.mark.parametrize('moment', ['start', 'before_step', 'after_step'])
@pytest.mark.parametrize(
    ('what', 'text'),
    [
        ((0, lambda param: param.norm()), r'expected kept\[0\] to be a tensor shaped like .* \(\(3, 3\)\), got \(\)'),
        ((0, lambda param: 1.0), r'got float. .* a plain number belongs in number_state'),
        (('unused', lambda param: param), r"expected kept\['unused'\] .* \(one of \d\), got \(3, 3\)"),
        ((99, lambda param: param), r'expected kept\[99\]'),
    ],
    ids=['norm', 'number', 'name', 'position'],
)
def test_state_that_could_not_be_resumed_is_refused_in_the_first_update(moment, what, text):
    net = make_net()
    wrapper = ComposedOptimWrapper(sgd(net), stages=[Remember(moment, what)])
    with pytest.raises(ValueError, match=text):
        train(net, wrapper, make_batches(1))


def test_state_that_breaks_later_is_refused_when_a_checkpoint_is_written():
    net, stage = make_net(), Remember('start', (0, torch.clone))
    wrapper = ComposedOptimWrapper(sgd(net), stages=[stage])
    train(net, wrapper, make_batches(1))
    wrapper.state_dict()
    stage.kept[1] = torch.ones(7)
    with pytest.raises(ValueError, match=r'expected kept\[1\] .* got \(7,\)'):
        wrapper.state_dict()
