"""The names of a model's classes, from a checkpoint or from the training data."""

import pytest
import torch
from config_helpers import applied

from hybridcls.engine import load_config
from hybridcls.engine.config.model_classes import checkpoint_class_names, training_class_names
from hybridcls.engine.config.num_classes import num_classes


@pytest.fixture
def checkpoint(tmp_path):
    torch.save(dict(state_dict={}, meta=dict(dataset_meta=dict(classes=('a', 'b')))), tmp_path / 'a.pth')
    torch.save(dict(state_dict={}), tmp_path / 'bare.pth')
    return str(tmp_path / 'a.pth')


def test_of_a_checkpoint(checkpoint, tmp_path):
    assert checkpoint_class_names(checkpoint).names == ('a', 'b')
    assert checkpoint_class_names(str(tmp_path / 'bare.pth')) is None


def test_of_the_training_data(toy_configs):
    cfg = load_config(toy_configs / 'toy.py')
    assert len(training_class_names(cfg).names) == 3
    cfg.train_dataloader = None
    assert training_class_names(cfg) is None


def test_a_checkpoint_counts_the_classes_of_a_test(toy_configs, toy_plugin, monkeypatch, checkpoint, tmp_path):
    monkeypatch.setattr(toy_plugin.ToyPoints, '__init__', None)  # building it would fail
    cfg = load_config(toy_configs / 'toy.py', {'model.head.num_classes': None})
    applied(cfg, num_classes, checkpoint)
    assert cfg.model.head.num_classes == 2
    cfg = load_config(toy_configs / 'toy.py', {'model.head.num_classes': None, 'model.members': [checkpoint]})
    applied(cfg, num_classes)
    assert cfg.model.head.num_classes == 2
    cfg = load_config(toy_configs / 'toy.py', {'model.head.num_classes': None, 'train_dataloader': None})
    with pytest.raises(ValueError, match='num_classes is not set, and there are no training data to count classes in'):
        applied(cfg, num_classes, str(tmp_path / 'bare.pth'))
