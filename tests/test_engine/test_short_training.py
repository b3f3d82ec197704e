"""A training with fewer batches than its schedule was made for."""

import math
from pathlib import Path

import pytest

from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_training, run_training
from hybridcls.engine.runner_instances import own_instances

CONFIG = Path(__file__).resolve().parents[2] / 'configs' / 'digits' / 'ce_hybrid.py'


def train(tmp_path, images, **more):
    options = {
        'train_cfg.max_epochs': 1,
        'train_dataloader.dataset.indices': images,
        'val_cfg': None,
        'val_dataloader': None,
        'val_evaluator': None,
        'default_hooks.checkpoint.save_best': None,
        'train_dataloader.batch_size': 8,
        'train_dataloader.drop_last': True,
        'train_dataloader.num_workers': 0,
        **more,
    }
    with own_instances():
        runner = build_runner(prepare_training(load_config(CONFIG, options), TrainOptions(), str(tmp_path)))
        run_training(runner)
        return runner.message_hub.get_scalar('train/base_lr').data[0]


@pytest.mark.parametrize('batches', [1, 4, 9, 10])
def test_a_warm_up_of_less_than_a_batch_is_left_out(tmp_path, batches):
    rates = train(tmp_path, 8 * batches)
    assert len(rates) == batches
    # A fifth of ten batches is two, the fewest that warm anything up.
    assert rates.argmax() == (0 if batches < 10 else 1)
    assert rates.max() == pytest.approx(2e-3)


def test_few_iterations_are_no_other_than_few_batches(tmp_path):
    rates = train(tmp_path, 64, **{'train_cfg.by_epoch': False, 'train_cfg.max_iters': 4})
    assert len(rates) == 4
    assert rates[0] == pytest.approx(2e-3)


def test_no_batch_is_explained_before_the_schedule_stumbles(tmp_path):
    with pytest.raises(ValueError, match=r'5 images on 1 process do not fill one batch of 8.*batch_size to at most 5'):
        train(tmp_path, 5)


def test_what_follows_a_warm_up_that_is_left_out_begins_at_once(tmp_path):
    """One batch an epoch: the cosine takes the whole training, not what is left after its own begin."""
    warm_up = [
        dict(type='LinearLR', start_factor=0.1, end=1, convert_to_iter_based=True),
        dict(type='CosineAnnealingLR', begin=1, convert_to_iter_based=True),
    ]
    rates = train(tmp_path, 8, **{'train_cfg.max_epochs': 4, 'param_scheduler': warm_up})
    assert rates.tolist() == pytest.approx([2e-3 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)])
