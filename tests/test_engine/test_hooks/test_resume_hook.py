"""What a resumed run remembers, and the validation that it owes."""

import numpy as np
import pytest
import torch
from toy_runs import rates, train

from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_testing
from hybridcls.engine.runner.global_instances import isolated_globals

EARLY = "custom_hooks = [dict(type='EarlyStoppingHook', monitor='toy/top1', rule='greater', patience=3)]\n"
PLATEAU = {
    'param_scheduler': [dict(type='ReduceOnPlateauLR', monitor='toy/top1', rule='greater', patience=1, factor=0.5)]
}


@pytest.mark.parametrize('epoch', [1, 2, *(pytest.param(epoch, marks=pytest.mark.nightly) for epoch in (3, 4))])
@pytest.mark.parametrize('what', ['early stopping', 'plateau'])
def test_a_memory_of_validations_survives_wherever_the_run_was_stopped(
    toy_configs, tmp_path, monkeypatch, toy_plugin, epoch, what
):
    """The best is the second validation of five, so some checkpoints know their validation, and some do not."""
    options = {'train_cfg.max_epochs': 8, **({} if what == 'early stopping' else PLATEAU)}
    text = "_base_ = 'toy.py'\n" + (EARLY if what == 'early stopping' else 'custom_hooks = []\n')
    (toy_configs / 'plain.py').write_text(text)
    (toy_configs / 'stop.py').write_text(f"{text}custom_hooks.append(dict(type='StopHook', epoch={epoch}))\n")
    scores = iter(())
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'compute_metrics', lambda self, results: dict(top1=next(scores)))

    def of_epoch(number):
        return iter([10.0, 30.0, 20.0, 20.0, 20.0, 20.0, 20.0, 20.0][number:])

    scores = of_epoch(0)
    straight = train(toy_configs / 'plain.py', tmp_path / 'straight', **options)
    scores = of_epoch(0)
    with pytest.raises(toy_plugin.Stopped):
        train(toy_configs / 'stop.py', tmp_path / 'w', **options)
    saved = torch.load(tmp_path / 'w' / f'epoch_{epoch}.pth', weights_only=False)
    was_validated = saved['resume']['validated'] == saved['meta']['iter']
    assert was_validated == (epoch in (1, 2)), 'it is written again where it is the best'
    scores = of_epoch(epoch - (not was_validated))
    resumed = train(toy_configs / 'plain.py', tmp_path / 'w', resume='auto', **options)
    assert resumed.epoch == straight.epoch
    assert rates(resumed) == rates(straight)
    if what == 'early stopping':
        assert straight.epoch == 5
    else:
        assert len(set(rates(straight))) > 1


def test_a_hook_of_a_plugin_keeps_its_state(toy_configs, tmp_path, toy_plugin):
    from mmengine.hooks import Hook

    from hybridcls.registry import HOOKS

    class CountingHook(Hook):
        def __init__(self):
            self.count = 0

        def after_train_iter(self, runner, **kwargs):
            self.count += 1

        def state_dict(self):
            return dict(count=np.int64(self.count))

        def load_state_dict(self, state):
            self.count = state['count']

    HOOKS.register_module(module=CountingHook, force=True)
    (toy_configs / 'two.py').write_text("_base_ = 'toy.py'\ncustom_hooks = [dict(type='CountingHook')] * 2\n")
    train(toy_configs / 'two.py', tmp_path / 'w')
    torch.load(tmp_path / 'w' / 'epoch_3.pth', weights_only=True)
    runner = train(toy_configs / 'two.py', tmp_path / 'w', resume='auto', **{'train_cfg.max_epochs': 4})
    assert [hook.count for hook in runner.hooks if isinstance(hook, CountingHook)] == [12, 12]


def test_the_last_validation_is_done_on_resume_if_the_run_was_stopped_within_it(toy_configs, tmp_path, toy_plugin):
    (toy_configs / 'signalled.py').write_text(
        "_base_ = 'toy.py'\ncustom_hooks = [dict(type='SignalHook', iteration=9, validation=True)]\n"
    )
    with pytest.raises(SystemExit):
        train(toy_configs / 'signalled.py', tmp_path / 'w')
    runner = train(toy_configs / 'toy.py', tmp_path / 'w', resume='auto')
    straight = train(toy_configs / 'toy.py', tmp_path / 'straight')
    assert runner.message_hub.get_scalar('val/toy/top1').data[0].tolist() == (
        straight.message_hub.get_scalar('val/toy/top1').data[0].tolist()
    )


def test_a_test_of_a_config_that_says_resume_only_tests(toy_configs, tmp_path):
    """As mmpretrain's tools do with the config that a resumed run has dumped."""
    train(toy_configs / 'toy.py', tmp_path, **{'train_cfg.max_epochs': 1})
    cfg = prepare_testing(
        load_config(toy_configs / 'toy.py'), str(tmp_path / 'epoch_1.pth'), TrainOptions(), str(tmp_path)
    )
    with isolated_globals():
        expected = build_runner(cfg).test()
    cfg.resume = True
    with isolated_globals():
        assert build_runner(cfg).test() == expected
