"""Where the number of classes comes from when a head leaves it open."""

import pytest
import torch
from mmengine.config import Config

from hybridcls.engine import ConfigError
from hybridcls.engine.config.num_classes import num_classes


def config(data=None, **head):
    model = dict(type='HybridClassifier', head=dict(type='LinearHead', **head))
    return Config(dict(model=model, train_dataloader=dict(dataset=data), default_scope='hybridcls'))


def counted(cfg, checkpoint=None):
    return [(change.path, change.new, change.why) for change in num_classes(cfg, checkpoint)]


@pytest.fixture
def checkpoint(tmp_path):
    path = str(tmp_path / 'epoch_1.pth')
    torch.save(dict(state_dict={}, meta=dict(dataset_meta=dict(classes=['ant', 'bee', 'cat']))), path)
    return path


def test_a_number_that_is_set_reads_nothing():
    assert counted(config(dict(type='NoSuchData'), num_classes=7), 'no_such_file.pth') == []


def test_the_training_data_are_counted():
    expected = [(('model', 'head', 'num_classes'), 3, 'classes of the training data')]
    assert counted(config(dict(type='Digits', digits=(1, 3, 7)))) == expected
    assert counted(config(dict(type='Digits', digits=(1, 3, 7)), num_classes=None)) == expected


def test_a_checkpoint_that_is_tested_comes_first(checkpoint):
    cfg = config(dict(type='Digits', digits=(1, 2)))
    assert counted(cfg, checkpoint) == [(('model', 'head', 'num_classes'), 3, 'classes of the checkpoint')]


def test_without_names_it_must_be_set():
    with pytest.raises(ConfigError, match='LinearHead: num_classes is not set, and there are no training data'):
        counted(config())


def test_a_head_without_classes_has_no_number():
    cfg = config()
    cfg.model.head = dict(type='SupConHead')
    assert counted(cfg) == []
