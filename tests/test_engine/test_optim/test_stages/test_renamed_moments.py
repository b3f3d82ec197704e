"""A stage that is written for version 0.1 trains as one in today's words."""

import copy

import pytest
import torch
from update_toys import assert_same, make_batches, make_net, sgd, train

from hybridcls import renames
from hybridcls.engine.optim import SAM, ComposedOptimWrapper, Lookahead, UpdateStage


@pytest.fixture(autouse=True)
def said(monkeypatch):
    texts = []
    monkeypatch.setattr(renames, '_warned', set())
    monkeypatch.setattr(
        'mmengine.logging.print_log', lambda text, *_, **__: texts.append(text) if 'is called' in text else None
    )
    return texts


def old_and_new(base=UpdateStage):
    """The same stage twice: a second pass at shrunk weights, a sign in the gradient, a pull to zero after it."""

    class Old(base):
        tensor_state = ('seen',)
        probes = True

        def __init__(self):
            self.seen = {}

        def wants_regrad(self, update):
            return update.count % 2 == 0

        def probe(self, update):
            if self.wants_regrad(update):
                for param in update.params:
                    param.mul_(0.5)
                update.regrad(same_randomness=True)
                for param in update.params:
                    param.mul_(2.0)

        def transform(self, update):
            for i in update.with_gradient():
                self.seen[i] = update.params[i].grad.clone()
                update.params[i].grad.mul_(0.5)

        def settle(self, update):
            for param in update.params:
                param.mul_(0.99)

    class New(base):
        tensor_state = ('seen',)
        has_second_pass = True
        __init__ = Old.__init__
        before_step, after_step = vars(Old)['transform'], vars(Old)['settle']

        def needs_second_pass(self, update):
            return update.count % 2 == 0

        def second_pass(self, update):
            if self.needs_second_pass(update):
                for param in update.params:
                    param.mul_(0.5)
                update.recompute_gradient(same_randomness=True)
                for param in update.params:
                    param.mul_(2.0)

    return Old, New


def trained(stage, count=5):
    net = make_net()
    torch.manual_seed(1)
    wrapper = ComposedOptimWrapper(sgd(net), stages=[stage])
    train(net, wrapper, make_batches(count))
    return net, wrapper


def test_it_ends_in_the_same_bits_and_warns_once_for_each_name(said):
    old, new = old_and_new()
    (one, _), (other, wrapper) = trained(old()), trained(new())
    assert_same(one, other)
    assert wrapper.stages['stage0'].seen
    for name, today in renamed().items():
        assert sum(f'{name} is called {today}' in text for text in said) == 1, name
    assert len(said) == 6


def renamed():
    return dict(
        probes='has_second_pass',
        wants_regrad='needs_second_pass',
        probe='second_pass',
        transform='before_step',
        settle='after_step',
        regrad='recompute_gradient',
    )


def test_without_the_attribute_it_has_a_second_pass_too():
    class Old(UpdateStage):
        def probe(self, update):
            pass

    assert Old.has_second_pass


def test_a_class_that_extends_a_stage_by_the_old_names_calls_the_old_names(said):
    class Slower(Lookahead):
        calls = 0

        def settle(self, update):
            Slower.calls += 1
            super().settle(update)

    class Sharper(SAM):
        def probe(self, update):
            super().probe(update)

        def wants_regrad(self, update):
            return super().wants_regrad(update)

    (one, _), (other, _) = trained(Slower(k=2)), trained(Lookahead(k=2))
    assert_same(one, other)
    assert Slower.calls == 5
    (one, _), (other, _) = trained(Sharper(rho=0.1)), trained(SAM(rho=0.1))
    assert_same(one, other)


def test_a_mixin_may_have_the_old_name():
    class Mixin:
        def settle(self, update):
            for param in update.params:
                param.zero_()

    class Mixed(Mixin, UpdateStage):
        pass

    net, _ = trained(Mixed(), 1)
    assert all(not param.any() for param in net.parameters())


def test_a_helper_that_happens_to_have_an_old_name_stays_what_it_is(said):
    class Scale(UpdateStage):
        def transform(self, grad):
            return grad * 2

        def before_step(self, update):
            for i in update.with_gradient():
                update.params[i].grad.copy_(self.transform(update.params[i].grad))

    class Derived(Scale):
        def before_step(self, update):
            super().before_step(update)

    assert Derived().transform(3) == 6
    trained(Derived(), 1)
    assert not said


def test_its_state_resumes():
    old, _ = old_and_new()
    straight, net, resumed = (make_net(dropout=0.0) for _ in range(3))
    train(straight, ComposedOptimWrapper(sgd(straight), stages=[old()]), make_batches(4))
    wrapper = ComposedOptimWrapper(sgd(net), stages=[old()])
    train(net, wrapper, make_batches(4)[:3], total=4)
    other = ComposedOptimWrapper(sgd(resumed), stages=[old()])
    resumed.load_state_dict(net.state_dict())
    other.load_state_dict(copy.deepcopy(wrapper.state_dict()))
    train(resumed, other, make_batches(4)[3:], start=3, total=4)
    assert_same(resumed, straight)
