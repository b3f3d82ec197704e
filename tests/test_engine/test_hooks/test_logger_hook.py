"""A running validation does not show the results of the one before it."""

from mmengine.logging import MessageHub

from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_training
from hybridcls.engine.hooks import LoggerHook
from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.registry import HOOKS


def test_lines_of_a_running_validation_are_without_old_results(toy_configs, toy_plugin, tmp_path, monkeypatch):
    assert HOOKS.get('LoggerHook') is LoggerHook
    losses = iter([1.5, 2.5])
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'default_prefix', 'val')
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'compute_metrics', lambda self, results: dict(loss=next(losses)))
    options = {'default_hooks.checkpoint.save_best': None, 'train_cfg.max_epochs': 2, 'log_level': 'INFO'}
    with isolated_globals():
        runner = build_runner(
            prepare_training(load_config(toy_configs / 'toy.py', options), TrainOptions(), str(tmp_path))
        )
        runner.train()
        hub = MessageHub.get_instance(runner.experiment_name)
        assert hub.get_scalar('val/val/loss').current() == 2.5
    log = next(tmp_path.glob('2*/*.log')).read_text()
    lines = [line for line in log.splitlines() if 'Epoch(val)' in line]
    at_end = [line for line in lines if 'val/loss: ' in line]
    assert [line.split('val/loss: ')[1].split()[0] for line in at_end] == ['1.5000', '2.5000']
    assert len(lines) > len(at_end)
