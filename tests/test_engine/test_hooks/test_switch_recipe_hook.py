"""A loss that changes at an epoch: what LinearHead computes then, and what other heads answer before the run."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MMLogger
from mmpretrain.structures import DataSample
from torch import nn

from hybridcls.registry import HOOKS, MODELS

SMOOTH = dict(type='LabelSmoothLoss', label_smooth_val=0.3)


def runner_of(epoch=0, **head):
    model = nn.Module()
    model.head = MODELS.build(dict(num_classes=3, in_channels=4, **head))
    logger = MMLogger.get_instance('switch')
    return SimpleNamespace(model=model, epoch=epoch, logger=logger)


def hook(loss):
    return HOOKS.build(dict(type='hybridcls.SwitchRecipeHook', schedule=[dict(action_epoch=2, loss=loss)]))


def test_linear_head_takes_the_loss_of_its_epoch():
    runner, switch = runner_of(type='LinearHead'), hook(SMOOTH)
    feats, samples = torch.randn(2, 4), [DataSample().set_gt_label(label) for label in (0, 2)]
    switch.before_run(runner)
    switch.before_train_epoch(runner)
    before = runner.model.head.loss((feats,), samples)['loss']
    runner.epoch = 1
    switch.before_train_epoch(runner)
    losses = -runner.model.head((feats,)).log_softmax(1)
    plain = losses[[0, 1], [0, 2]].mean()
    torch.testing.assert_close(before, plain)
    torch.testing.assert_close(runner.model.head.loss((feats,), samples)['loss'], 0.7 * plain + 0.3 * losses.mean())


@pytest.mark.parametrize('head', [dict(type='ArcFaceHead'), dict(type='EvidentialHead')])
def test_heads_that_cannot_take_it_say_so_before_the_run(head):
    with pytest.raises(ValueError, match=rf'at epoch 2 expected a loss for {head["type"]} .*, got LabelSmoothLoss'):
        hook(SMOOTH).before_run(runner_of(**head))
    hook(dict(type='hybridcls.EvidentialLoss')).before_run(runner_of(type='EvidentialHead'))
    hook(SMOOTH).before_run(runner_of(type='LinearClsHead'))
