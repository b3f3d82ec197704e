"""A training without a batch, or with a last one that BatchNorm refuses, is told so."""

import pytest
from torch import nn

from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_training
from hybridcls.engine.hooks.batch_check_hook import _last_batch_has_one
from hybridcls.engine.runner.global_instances import isolated_globals


@pytest.mark.parametrize(
    ('loader', 'sentence'),
    [
        (dict(batch_size=32, drop_last=True), '24 images on 1 process do not fill a batch of 32.*at most 24, or'),
        (dict(batch_size=1, drop_last=True, dataset=dict(length=0)), 'The dataset is empty'),
    ],
)
def test_no_batch(toy_configs, tmp_path, loader, sentence):
    cfg = prepare_training(
        load_config(toy_configs / 'toy.py', dict(train_dataloader=loader)), TrainOptions(), str(tmp_path / 'w')
    )
    with isolated_globals(), pytest.raises(ValueError, match=sentence):
        build_runner(cfg).train()


def test_a_last_batch_that_is_kept_is_enough(toy_configs, tmp_path):
    cfg = prepare_training(
        load_config(toy_configs / 'toy.py', {'train_dataloader.batch_size': 32}), TrainOptions(), str(tmp_path / 'w')
    )
    with isolated_globals():
        runner = build_runner(cfg)
        runner.train()
        assert runner.iter == 3


def trained(toy_configs, tmp_path, change=None, **loader):
    """The toy has 24 points and a BatchNorm over vectors."""
    options = {f'train_dataloader.{key}': value for key, value in loader.items()}
    cfg = prepare_training(load_config(toy_configs / 'toy.py', options), TrainOptions(), str(tmp_path / 'w'))
    with isolated_globals():
        runner = build_runner(cfg)
        if change is not None:
            change(runner.model)
        runner.train()
    return runner


@pytest.mark.parametrize(('points', 'batch_size'), [(25, 8), (24, 23), (3, 1)])
def test_a_last_batch_of_one_image_that_batchnorm_refuses(toy_configs, tmp_path, points, batch_size):
    says = rf'got {points} images a process in batches of {batch_size}, .*BatchNorm \(backbone.1\).*drop_last=True'
    keys = {'batch_size': batch_size, 'dataset.length': points}
    with pytest.raises(ValueError, match=says):
        trained(toy_configs, tmp_path, **keys)
    assert not list((tmp_path / 'w').glob('*.pth'))


def without_batchnorm(model):
    model.backbone[1] = nn.Identity()


def frozen(model):
    model.backbone[1].train = lambda mode=True: model.backbone[1]
    model.backbone[1].training = False


@pytest.mark.parametrize(
    ('change', 'keys'),
    [
        (None, {'drop_last': True}),
        (None, {'dataset.length': 26}),
        (without_batchnorm, {}),
        (frozen, {}),
    ],
)
def test_a_last_batch_that_trains(toy_configs, tmp_path, change, keys):
    runner = trained(toy_configs, tmp_path, change, **{'batch_size': 8, 'dataset.length': 25, **keys})
    assert runner.epoch == 3
    assert not any(module._forward_pre_hooks for module in runner.model.modules())


def test_a_loader_that_only_has_a_length():
    """As mmpretrain's vis_scheduler.py puts in place of the data."""

    class Loader:
        def __len__(self):
            return 3

    assert not _last_batch_has_one(Loader())
