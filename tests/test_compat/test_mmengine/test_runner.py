"""The Runner that may draw first weights otherwise, and reads checkpoints in silence."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from toy_runs import train

from hybridcls.compat.mmengine.runner import AdaptedRunner
from hybridcls.registry import HOOKS


@HOOKS.register_module(force=True)
class DrawOnesHook(Hook):
    """Draws by a function of its own, and prints while a checkpoint is loaded."""

    def before_run(self, runner):
        runner.draw_weights = lambda: torch.nn.init.ones_(runner.model.head.weight)

    def after_load_checkpoint(self, runner, checkpoint):
        print('a print of a hook')


def test_weights_are_drawn_by_the_function_that_is_given(toy_configs, tmp_path):
    still = {'optim_wrapper.optimizer.lr': 0.0, 'train_cfg.max_epochs': 1}
    runner = train(toy_configs / 'toy.py', tmp_path, custom_hooks=[dict(type='DrawOnesHook')], **still)
    assert isinstance(runner, AdaptedRunner)
    assert (runner.model.head.weight == 1).all()
    runner = train(toy_configs / 'toy.py', tmp_path / 'without', **still)
    assert not (runner.model.head.weight == 1).all()


def test_reading_a_checkpoint_prints_nothing_and_hooks_may(toy_configs, tmp_path, capsys):
    options = {'train_cfg.max_epochs': 1}
    train(toy_configs / 'toy.py', tmp_path, **options)
    capsys.readouterr()
    options.update(custom_hooks=[dict(type='DrawOnesHook')], load_from=str(tmp_path / 'epoch_1.pth'))
    train(toy_configs / 'toy.py', tmp_path / 'next', **options)
    printed = capsys.readouterr().out
    assert 'by local backend' not in printed
    assert 'a print of a hook' in printed


def test_mmengine_has_the_methods_that_are_replaced():
    for name in ('_init_model_weights', 'load_checkpoint', 'call_hook'):
        assert callable(vars(Runner)[name])
