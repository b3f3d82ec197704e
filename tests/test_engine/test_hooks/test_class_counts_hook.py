"""The number of training images of each class reaches the heads that ask for it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from hybridcls.engine.hooks import ClassCountsHook
from hybridcls.registry import HOOKS, MODELS


class Labels:
    metainfo = dict(classes=('cat', 'dog', 'emu'))

    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def get_gt_labels(self):
        return self.labels


def runner_of(labels, **head):
    model, said = nn.Module(), []
    model.head = MODELS.build(dict(num_classes=3, in_channels=4, **head))
    loader = SimpleNamespace(dataset=Labels(labels))
    return SimpleNamespace(
        model=model, train_dataloader=loader, said=said, hooks=[], logger=SimpleNamespace(info=said.append)
    )


def counted(labels, **head):
    runner = runner_of(labels, **head)
    HOOKS.build(dict(type='ClassCountsHook')).before_train(runner)
    return runner


@pytest.mark.parametrize('kind', ['LinearHead', 'ArcFaceHead', 'CosFaceHead', 'AdaFaceHead', 'EvidentialHead'])
def test_every_classifying_head_is_told(kind):
    runner = counted([0] * 8 + [2] * 2, type=kind, class_weight='balanced')
    torch.testing.assert_close(runner.model.head.class_balance.weight, torch.tensor([10 / 16, 0, 10 / 4]))
    assert runner.model.state_dict()['head.class_balance.counts'].tolist() == [8, 0, 2, 10]
    assert runner.said == [
        '10 training images, from 2 of emu to 8 of cat in 2 classes, none in 1: dog. head: '
        "class_weight='balanced' from 0.625 to 2.5."
    ]


def test_several_labels_an_image():
    runner = counted([[0, 1], [], [1], [1, 2]], type='MultiLabelHead', pos_weight='balanced')
    torch.testing.assert_close(runner.model.head.positive_weight.weight, torch.tensor([3, 1 / 3, 3]))


def test_parts_of_a_multi_head_are_told_in_one_line():
    heads = dict(
        one=dict(type='LinearHead', logit_adjustment=1.0), two=dict(type='EvidentialHead', class_weight='effective')
    )
    runner = counted([0, 1, 1, 2], type='MultiHead', heads=heads)
    (said,) = runner.said
    assert 'head.heads.one: logit_adjustment from -1.39 to -0.693. head.heads.two: class_weight=' in said


@pytest.mark.parametrize('update_buffers', [False, True])
def test_an_average_of_the_model_is_told_too(update_buffers):
    """A validation runs on its buffers, with which ``EMAHook`` swaps the model's."""
    runner = runner_of([0] * 8 + [1, 2], type='LinearHead', logit_adjustment=dict(tau=1.0, post_hoc=True))
    ema = HOOKS.build(dict(type='EMAHook', update_buffers=update_buffers))
    ema.before_run(runner)
    runner.hooks.append(ema)
    ClassCountsHook().before_train(runner)
    features = torch.ones(1, 4)
    wanted = runner.model.eval().head(features)
    assert wanted.argmax() != 0  # the most frequent class loses most
    ema.ema_model.update_parameters(runner.model)
    ema.before_val_epoch(runner)
    assert torch.equal(runner.model.head(features), wanted)
    assert len(runner.said) == 1


def test_where_nothing_asks_no_label_is_read():
    runner = runner_of([0], type='LinearHead')
    runner.train_dataloader = None
    ClassCountsHook().before_train(runner)
    assert not runner.said


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r'ClassCountsHook: the training data has the label 3, outside \[0, 2\]'):
        counted([0, 3], type='LinearHead', class_weight='balanced')
    with pytest.raises(ValueError, match='ClassCountsHook: expected labels in the training data for head, got none'):
        counted(np.zeros((2, 0)), type='MultiLabelHead', pos_weight='balanced')
