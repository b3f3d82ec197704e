"""A training that is shorter than its warm-up."""

from pathlib import Path

import pytest
from mmengine.config import Config

from hybridcls.engine import ConfigError, TrainOptions, build_runner, load_config, prepare_training
from hybridcls.engine.runner_instances import own_instances
from hybridcls.engine.schedule_fit import fit_schedules


def config(epochs, **more):
    return Config(
        dict(
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            param_scheduler=[
                dict(type='LinearLR', begin=0, end=5, convert_to_iter_based=True),
                dict(type='CosineAnnealingLR', begin=5, convert_to_iter_based=True, **more),
            ],
        )
    )


@pytest.mark.parametrize('epochs', [6, 100])
def test_what_fits_stays(epochs):
    cfg = config(epochs)
    before = cfg.to_dict()
    fit_schedules(cfg)
    assert cfg.to_dict() == before


@pytest.mark.parametrize('epochs', [1, 5])
def test_what_does_not_fit_takes_a_fifth(epochs):
    cfg = config(epochs)
    fit_schedules(cfg)
    assert cfg.param_scheduler[0].end == cfg.param_scheduler[1].begin == pytest.approx(epochs / 5)


def test_iterations():
    cfg = Config(
        dict(
            train_cfg=dict(by_epoch=False, max_iters=7),
            param_scheduler=[
                dict(type='LinearLR', by_epoch=False, end=500),
                dict(type='CosineAnnealingLR', by_epoch=False, begin=500),
            ],
        )
    )
    fit_schedules(cfg)
    assert cfg.param_scheduler[0].end == cfg.param_scheduler[1].begin == 1


def test_whole_epochs_have_no_fifth():
    with pytest.raises(ConfigError, match=r'param_scheduler.1 begins after 5 epochs, and the training ends after 2'):
        fit_schedules(_whole(2))


def _whole(epochs):
    cfg = config(epochs)
    cfg.param_scheduler[1].convert_to_iter_based = False
    return cfg


@pytest.mark.parametrize('schedulers', [dict(), dict(param_scheduler=None), dict(param_scheduler=[])])
def test_without_schedulers_there_is_nothing_to_fit(schedulers):
    before = dict(train_cfg=dict(by_epoch=True, max_epochs=1), **schedulers)
    cfg = Config(before)
    fit_schedules(cfg)
    assert cfg.to_dict() == before


def test_one_epoch_of_a_shipped_config(tmp_path):
    path = Path(__file__).resolve().parents[2] / 'configs' / 'digits' / 'ce_hybrid.py'
    options = {
        'train_cfg.max_epochs': 1,
        'train_dataloader.dataset.indices': 640,
        'val_cfg': None,
        'val_dataloader': None,
        'val_evaluator': None,
        'default_hooks.checkpoint.save_best': None,
    }
    with own_instances():
        runner = build_runner(prepare_training(load_config(path, options), TrainOptions(), str(tmp_path)))
        runner.train()
        rates = runner.message_hub.get_scalar('train/base_lr').data[0]
    assert len(rates) == 10
    assert rates.argmax() == 1  # after two of ten iterations
    assert rates[-1] < rates.max() / 5
