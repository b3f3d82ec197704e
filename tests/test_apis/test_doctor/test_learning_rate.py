"""The curve of a problem whose limit is known, and a search that leaves no trace."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from torch import nn
from toy_runs import train

from hybridcls.apis.doctor import Wishes, examine
from hybridcls.apis.doctor.learning_rate import RateCurve, rate_curve, rate_findings
from hybridcls.apis.doctor.train_step import TrainStep
from hybridcls.compat.mmengine.accumulation import accumulation_counts
from hybridcls.engine import load_config
from hybridcls.replay.random_state import get_random_state


@pytest.fixture
def bowl():
    """Gradient descent on 10 w^2 / 2: the loss falls fastest at the rate 1 / 10, and grows from 2 / 10 on."""
    weight = nn.Parameter(torch.tensor([4.0]))
    wrapper = OptimWrapper(torch.optim.SGD([weight], lr=1.0))

    def step(_):
        loss = 5 * (weight**2).sum() + 1
        wrapper.update_params(loss)
        return loss.item()

    return step, wrapper


def test_the_limit_of_a_bowl(bowl):
    step, wrapper = bowl
    curve = rate_curve(step, wrapper, range(200), 1.0, steps=200, lowest=1e-6, highest=10.0)
    assert 1e-4 < curve.suggested < 0.2  # the weight is at 0 before the rate is the best one
    assert 0.2 < curve.diverges < 2
    assert np.allclose(np.diff(np.log(curve.rates)), np.log(1e7) / 199)


def test_accumulated_batches_have_one_rate():
    """Three batches an update, of which each is the whole batch: the curve of the updates without accumulation."""
    curves = []
    for accumulated in (1, 3):
        weight = nn.Parameter(torch.tensor([4.0], dtype=torch.float64))
        wrapper = OptimWrapper(torch.optim.SGD([weight], lr=1.0), accumulated)

        def step(_, weight=weight, wrapper=wrapper):
            loss = 5 * (weight**2).sum() + 1
            wrapper.update_params(loss)
            return loss.item()

        numbers = iter(range(50 * accumulated - 1))  # the last update has too few
        curves.append(rate_curve(step, wrapper, numbers, 1.0, steps=50, highest=0.15, accumulated=accumulated))
    one, other = curves
    assert other.rates == one.rates
    np.testing.assert_allclose(other.losses, one.losses, rtol=1e-6)


def test_groups_keep_their_ratios(bowl):
    step, wrapper = bowl
    wrapper.optimizer.add_param_group(dict(params=[nn.Parameter(torch.zeros(1))], lr=0.5, initial_lr=0.25))
    rate_curve(step, wrapper, range(5), 1.0, steps=5, lowest=1e-3, highest=1e-2)
    assert wrapper.optimizer.param_groups[0]['lr'] == pytest.approx(1e-2)
    assert wrapper.optimizer.param_groups[1]['lr'] == pytest.approx(0.25e-2)


def test_a_loss_that_is_noise_suggests_nothing():
    noise = iter(np.random.default_rng(0).normal(2, 0.1, 60))
    wrapper = OptimWrapper(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0))
    curve = rate_curve(lambda _: float(next(noise)), wrapper, range(60), 1.0, steps=60)
    assert curve.suggested is None


def test_the_rate_of_the_config_is_compared():
    curve = RateCurve([1e-4, 1e-2, 1.0], [3.0, 2.0, 9.0], [3.0, 2.0, 9.0], 1e-2, 0.5)
    assert [one.level for one in rate_findings(curve, 1e-3)] == ['note']
    note, warning = rate_findings(curve, 0.7)
    assert warning.level == 'warning'
    assert note.change == warning.change == 'lr=0.01'
    (none,) = rate_findings(RateCurve([1e-4], [3.0], [3.0], None, None), 1e-3)
    assert 'did not fall' in none.what


def test_a_rate_between_the_steepest_and_the_diverging_one_is_left():
    curve = RateCurve([1e-4, 1e-2, 1.0], [3.0, 2.0, 9.0], [3.0, 2.0, 9.0], 1e-2, 0.5, (4e-3, 2e-2))
    found = {rate: [one.change for one in rate_findings(curve, rate)] for rate in (1e-3, 4e-3, 0.1, 0.5)}
    assert found == {1e-3: ['lr=0.01'], 4e-3: [''], 0.1: [''], 0.5: ['lr=0.01', 'lr=0.01']}
    (note,) = rate_findings(curve, 0.1)
    assert 'at lr=0.01 (80 % of resampled curves: 0.004 to 0.02), and diverges at 0.5' in note.what


def test_the_interval_of_the_steepest_rate_grows_with_the_noise():
    steps = np.linspace(0, 1, 100)
    spans, suggested = [], []
    for noise in (0.0, 0.02, 0.1):
        generator = np.random.default_rng(0)
        draws = [3 / (1 + np.exp(15 * (steps - 0.5))) + 1 + noise * generator.normal(size=100) for _ in range(20)]
        curves = []
        for losses in draws:
            wrapper = OptimWrapper(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0))
            numbers = iter(losses)
            curves.append(rate_curve(lambda _, numbers=numbers: float(next(numbers)), wrapper, range(100), 1.0))
        spans.append(np.median([np.log10(one.between[1] / one.between[0]) for one in curves]))
        suggested.append(np.log10([one.suggested for one in curves]))
        assert abs(np.median(suggested[-1]) + 3) < 0.3  # the sigmoid is steepest at 1e-3
    assert spans[0] < spans[1] < spans[2]
    # As wide as what other draws of the noise do to the suggestion, within a factor of 2.
    low, high = np.quantile(suggested[2], (0.1, 0.9))
    assert (high - low) / 2 < spans[2] < (high - low) * 2


def test_the_interval_holds_the_suggestion():
    """Of a loss that falls just before it diverges, as of small networks from random weights, too."""
    places = []
    for seed in range(20):
        steps = np.arange(80)
        losses = np.where(steps < 55, 1.1, 1.1 - 0.012 * (steps - 55)) + np.where(steps > 72, (steps - 72) ** 2.0, 0)
        losses += 0.02 * np.random.default_rng(seed).normal(size=80)
        numbers = iter(losses)
        wrapper = OptimWrapper(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0))
        curve = rate_curve(lambda _, numbers=numbers: float(next(numbers)), wrapper, range(80), 1.0, steps=80)
        if curve.suggested is not None:
            places.append((curve.between[0] <= curve.suggested <= curve.between[1], curve.between))
    assert len(places) > 10
    assert all(is_held for is_held, _ in places)
    assert any(low < high for _, (low, high) in places)


def test_a_search_counts_updates(toy_configs, monkeypatch):
    """In a training shorter than the search, too, whose last update has fewer batches."""
    rates = []
    train_step = TrainStep.__call__

    def looked_at(self, data):
        wrapper = self.runner.optim_wrapper
        counts = accumulation_counts(wrapper)
        rates.append((counts.done, wrapper.optimizer.param_groups[0]['lr'], counts.total))
        return train_step(self, data)

    monkeypatch.setattr(TrainStep, '__call__', looked_at)
    cfg = load_config(toy_configs / 'toy.py', dict(optim_wrapper=dict(accumulative_counts=4)))
    found = examine(lambda: cfg, wishes=Wishes(find_rate=True))
    curve = found.facts['learning_rate']
    assert [one for one in found.findings if one.level == 'problem'] == []
    assert len(curve['rates']) >= 20 or curve['diverges']
    of_search = [one for one in rates if one[2] == 400]
    assert [done for done, *_ in of_search] == list(range(len(of_search)))
    assert [rate for _, rate, _ in of_search[::4]][: len(curve['rates'])] == pytest.approx(curve['rates'])
    assert all(len({rate for _, rate, _ in of_search[at : at + 4]}) == 1 for at in range(0, len(of_search), 4))


LEVERS = {
    'none': {},
    'all': dict(
        optim_wrapper=dict(
            _delete_=True, type='ComposedOptimWrapper', optimizer=dict(type='AdamW', lr=1e-3), amp='bfloat16',
            accumulative_counts=2, stages=dict(sam=dict(type='SAM'), lookahead=dict(type='Lookahead')),
        ),
        custom_hooks=[dict(type='EMAHook', update_buffers=True)],
        env_cfg=dict(cudnn_benchmark=True),
    ),
}  # fmt: skip


@pytest.mark.parametrize('levers', LEVERS)
def test_a_search_leaves_no_trace(toy_configs, tmp_path, monkeypatch, levers):
    monkeypatch.chdir(tmp_path)
    config = tmp_path / 'levers.py'
    Config(dict(_base_=[str(toy_configs / 'toy.py')], **LEVERS[levers])).dump(config)
    before = train(config, tmp_path / 'before').model.state_dict()
    cfg = load_config(config)
    text, state, files = cfg.pretty_text, repr(get_random_state()), sorted(tmp_path.rglob('*'))
    torch.backends.cudnn.benchmark = False
    found = examine(lambda: cfg, wishes=Wishes(find_rate=True))
    assert found.facts['learning_rate']['losses']
    assert cfg.pretty_text == text
    assert not torch.backends.cudnn.benchmark
    assert repr(get_random_state()) == state
    assert sorted(tmp_path.rglob('*')) == files
    after = train(config, tmp_path / 'after').model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
