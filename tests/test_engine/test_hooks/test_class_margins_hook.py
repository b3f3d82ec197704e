from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from hybridcls.engine.hooks import ClassMarginsHook
from hybridcls.functional import margins_from_counts
from hybridcls.registry import HOOKS, MODELS


class Labels:
    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def get_gt_labels(self):
        return np.array(self.labels)


def runner_of(labels, margin='ClassWise'):
    model = nn.Module()
    model.head = MODELS.build(dict(type='MarginHead', num_classes=3, in_channels=4, margin=dict(type=margin)))
    return SimpleNamespace(model=model, train_dataloader=SimpleNamespace(dataset=Labels(labels)))


def test_counts_of_the_training_data_become_margins():
    runner = runner_of([0] * 8 + [2] * 2)
    HOOKS.build(dict(type='ClassMarginsHook')).before_train(runner)
    torch.testing.assert_close(
        runner.model.head.margin_function.class_margins, margins_from_counts(torch.tensor([8, 0, 2]))
    )
    assert 'head.margin_function.class_margins' in runner.model.state_dict()


def test_what_does_not_fit_is_named():
    with pytest.raises(TypeError, match='no class-wise margin'):
        ClassMarginsHook().before_train(runner_of([0], margin='ArcFace'))
    with pytest.raises(ValueError, match=r'label 3, outside \[0, 2\]'):
        ClassMarginsHook().before_train(runner_of([0, 3]))
