"""What a training leaves behind, read from its Runner."""

import pytest
from toy_runs import train

from hybridcls.engine.runner.outcome import outcome_of


def test_last_and_best(toy_configs, tmp_path):
    outcome = outcome_of(train(toy_configs / 'toy.py', tmp_path / 'w'), tmp_path / 'w')
    assert outcome.checkpoints['last'] == 'epoch_3.pth'
    assert (tmp_path / 'w' / outcome.checkpoints['best']).is_file()
    assert set(outcome.metrics) == {'val/toy/top1', 'best/toy/top1', 'best/score'}
    assert outcome.metrics['best/toy/top1'] == outcome.metrics['best/score'] >= outcome.metrics['val/toy/top1']
    assert outcome.no_best == ''


@pytest.mark.parametrize('keys', [['toy/top1', 'toy/other'], None])
def test_several_best_or_none(toy_configs, tmp_path, toy_plugin, monkeypatch, keys):
    compute = toy_plugin.ToyAccuracy.compute_metrics
    monkeypatch.setattr(
        toy_plugin.ToyAccuracy, 'compute_metrics', lambda self, results: dict(compute(self, results), other=2.0)
    )
    options = {'default_hooks.checkpoint.save_best': keys, 'default_hooks.checkpoint.rule': keys and ['greater'] * 2}
    outcome = outcome_of(train(toy_configs / 'toy.py', tmp_path / 'w', **options), tmp_path / 'w')
    assert list(outcome.checkpoints) == ['last']
    best = {name: value for name, value in outcome.metrics.items() if name.startswith('best/')}
    assert set(best) == {f'best/{key}' for key in keys or []}
    if keys:
        assert best['best/toy/other'] == 2
