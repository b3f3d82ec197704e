"""A config that counts epochs, trained by iterations."""

import pytest
from mmengine.config import Config

from hybridcls.engine import ConfigError
from hybridcls.engine.iteration_training import count_iterations


def config(**train_cfg):
    return Config(
        dict(
            train_cfg={'by_epoch': True, 'max_epochs': 100, 'val_interval': 50, **train_cfg},
            param_scheduler=[
                dict(type='LinearLR', begin=0, end=5, convert_to_iter_based=True),
                dict(type='CosineAnnealingLR', begin=5, convert_to_iter_based=True),
            ],
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1), logger=dict(type='LoggerHook')),
        )
    )


def test_epochs_stay_epochs():
    cfg = config()
    count_iterations(cfg)
    assert cfg.to_dict() == config().to_dict()


def test_iterations_reach_the_schedules_the_hooks_and_the_log():
    cfg = config(by_epoch=False, max_iters=2000)
    count_iterations(cfg)
    assert 'max_epochs' not in cfg.train_cfg
    warm_up, cosine = cfg.param_scheduler
    assert warm_up.to_dict() == dict(type='LinearLR', begin=0, end=100, by_epoch=False)
    assert cosine.to_dict() == dict(type='CosineAnnealingLR', begin=100, by_epoch=False)
    checkpoint = cfg.default_hooks.checkpoint
    assert (checkpoint.by_epoch, checkpoint.interval) == (False, 50)
    assert cfg.default_hooks.logger.log_metric_by_epoch is False
    assert cfg.log_processor.by_epoch is False


def test_what_a_hook_says_itself_stays():
    cfg = config(by_epoch=False, max_iters=2000)
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=7, by_epoch=False)
    count_iterations(cfg)
    assert cfg.default_hooks.checkpoint.interval == 7


@pytest.mark.parametrize(
    ('train_cfg', 'message'),
    [(dict(by_epoch=False), 'train_cfg.max_iters=10000'), (dict(max_epochs=None), 'train_cfg.max_epochs=100')],
)
def test_a_length_that_nobody_says(train_cfg, message):
    with pytest.raises(ConfigError, match=message):
        count_iterations(config(**train_cfg))


@pytest.mark.parametrize('epochs', [0, -1])
def test_a_training_of_nothing(epochs):
    with pytest.raises(ValueError, match=f'train_cfg: max_epochs={epochs} is outside'):
        count_iterations(config(max_epochs=epochs))


def test_a_schedule_in_epochs_without_any():
    cfg = config(by_epoch=False, max_iters=2000, max_epochs=None)
    with pytest.raises(ConfigError, match=r'param_scheduler\.0 counts epochs'):
        count_iterations(cfg)
