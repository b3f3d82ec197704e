"""A training without a batch is told so."""

import pytest

from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_training
from hybridcls.engine.runner_instances import own_instances


@pytest.mark.parametrize(
    ('loader', 'sentence'),
    [
        (dict(batch_size=32, drop_last=True), '24 images on 1 process do not fill one batch of 32.*at most 24, or'),
        (dict(batch_size=1, drop_last=True, dataset=dict(length=0)), 'The data set is empty'),
    ],
)
def test_no_batch(toy_configs, tmp_path, loader, sentence):
    cfg = prepare_training(
        load_config(toy_configs / 'toy.py', dict(train_dataloader=loader)), TrainOptions(), str(tmp_path / 'w')
    )
    with own_instances(), pytest.raises(ValueError, match=sentence):
        build_runner(cfg).train()


def test_a_last_batch_that_is_kept_is_enough(toy_configs, tmp_path):
    cfg = prepare_training(
        load_config(toy_configs / 'toy.py', {'train_dataloader.batch_size': 32}), TrainOptions(), str(tmp_path / 'w')
    )
    with own_instances():
        runner = build_runner(cfg)
        runner.train()
        assert runner.iter == 3
