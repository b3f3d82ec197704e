"""The second pass of an update: what it repeats, and what it leaves alone."""

import random

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample
from torch import nn
from update_toys import HardNet, assert_same, make_batches, make_net, sgd, train

from hybridcls.engine.optim import ComposedOptimWrapper, UpdateStage


class SecondLook(UpdateStage):
    """A second pass at the same weights; remembers both gradients."""

    has_second_pass = True

    def __init__(self, same_randomness=True):
        self.same_randomness = same_randomness
        self.first, self.second = [], []

    def needs_second_pass(self, update):
        return True

    def second_pass(self, update):
        self.first.append({i: update.params[i].grad.clone() for i in update.with_gradient()})
        self.loss = update.recompute_gradient(self.same_randomness)
        self.second.append({i: update.params[i].grad.clone() for i in update.with_gradient()})


def look_twice(net, batches, accumulation=1, **kwargs):
    stage = SecondLook(**kwargs)
    wrapper = ComposedOptimWrapper(sgd(net), stages=[stage], accumulative_counts=accumulation)
    return stage, wrapper, train(net, wrapper, batches)


def test_a_second_pass_at_the_same_weights_changes_nothing():
    """Same weights and buffers as training without it: BatchNorm, its count, a queue, dropout, the generators."""
    net, plain = make_net(), make_net()
    torch.manual_seed(1)
    stage, _, logged = look_twice(net, make_batches(4))
    drawn = torch.rand(1), random.random(), np.random.rand()  # noqa: NPY002
    random.setstate(state := random.getstate())
    torch.manual_seed(1)
    expected = train(plain, ComposedOptimWrapper(sgd(plain)), make_batches(4))
    assert torch.equal(drawn[0], torch.rand(1))
    assert state == random.getstate()
    assert logged == expected
    assert_same(net, plain)
    assert net.bn.num_batches_tracked == 4
    assert len(net.seen) == 8
    assert stage.first[0].keys() == stage.second[0].keys()
    for first, second in zip(net.seen[::2], net.seen[1::2], strict=True):
        assert torch.equal(first['zeros'], second['zeros'])
    torch.testing.assert_close(stage.first[-1], stage.second[-1], rtol=0, atol=0)


def test_other_dropout_masks_on_request():
    net = make_net()
    look_twice(net, make_batches(1), same_randomness=False)
    assert not torch.equal(net.seen[0]['zeros'], net.seen[1]['zeros'])


def test_gradients_of_earlier_micro_batches_wait_aside():
    net = make_net(dropout=0.0)
    stage, _, _ = look_twice(net, make_batches(2), accumulation=2)
    for i, total in stage.second[1].items():
        torch.testing.assert_close(total, stage.second[0][i] + stage.first[1][i])


class Classifier(BaseModel):
    """As mmpretrain's classifiers are trained: mixup in the preprocessor, soft labels in the samples."""

    def __init__(self):
        super().__init__(
            data_preprocessor=ClsDataPreprocessor(
                mean=[0.0] * 3,
                std=[1.0] * 3,
                num_classes=4,
                batch_augments=dict(augments=dict(type='Mixup', alpha=0.8)),
            )
        )
        self.fc = nn.Linear(12, 4)
        self.seen = []

    def forward(self, inputs, data_samples=None, mode='tensor'):
        scores = torch.stack([sample.gt_score for sample in data_samples])
        self.seen.append((inputs.clone(), scores.clone()))
        return dict(loss=nn.functional.cross_entropy(self.fc(inputs.flatten(1)), scores))


def test_mixup_is_drawn_once():
    net = Classifier()
    look_twice(
        net,
        [
            dict(
                inputs=[torch.randint(0, 255, (3, 2, 2)) for _ in range(4)],
                data_samples=[DataSample().set_gt_label(i) for i in range(4)],
            )
            for _ in range(2)
        ],
    )
    for first, second in zip(net.seen[::2], net.seen[1::2], strict=True):
        assert torch.equal(first[0], second[0])
        assert torch.equal(first[1], second[1])
    assert not torch.equal(net.seen[0][1], net.seen[2][1])


def test_losses_that_hooks_add_are_in_both_passes():
    net, direct = make_net(dropout=0.0), make_net(dropout=0.0)

    def add(module, args, kwargs, output):
        return dict(output, loss_extra=module.fc.weight.square().sum())

    net.register_forward_hook(add, with_kwargs=True)
    stage, _, logged = look_twice(net, make_batches(1))
    assert 'loss_extra' in logged[0]
    position = [name for name, _ in direct.named_parameters()].index('fc.weight')
    stage_without, _, _ = look_twice(direct, make_batches(1))
    torch.testing.assert_close(
        stage.second[0][position] - stage_without.second[0][position], 2 * make_net(dropout=0.0).fc.weight.detach()
    )


def test_a_loss_that_is_changed_outside_the_model_is_refused():
    class Weighted(HardNet):
        def train_step(self, data, optim_wrapper):
            with optim_wrapper.optim_context(self):
                losses = self(**data, mode='loss')
            loss, log = self.parse_losses(losses)
            optim_wrapper.update_params(3 * loss)
            return log

    with pytest.raises(ValueError, match='a second pass would use another loss'):
        look_twice(Weighted(), make_batches(1))


def test_a_model_that_is_called_twice_or_changes_its_input_is_refused():
    class Twice(HardNet):
        def train_step(self, data, optim_wrapper):
            with optim_wrapper.optim_context(self):
                self(**data, mode='loss')
                losses = self(**data, mode='loss')
            optim_wrapper.update_params(self.parse_losses(losses)[0])

    class InPlace(HardNet):
        def forward(self, inputs, data_samples=None, mode='tensor'):
            return super().forward(inputs.mul_(0.5), data_samples, mode)

    with pytest.raises(RuntimeError, match='Twice was called 2 times within optim_context'):
        look_twice(Twice(), make_batches(1))
    with pytest.raises(RuntimeError, match='InPlace changed its input in place'):
        look_twice(InPlace(), make_batches(1))


def test_a_stage_that_did_not_ask_before_gets_no_second_gradient():
    class Late(SecondLook):
        def needs_second_pass(self, update):
            return False

    net = make_net()
    with pytest.raises(RuntimeError, match='expected needs_second_pass of the stage to return True'):
        train(net, ComposedOptimWrapper(sgd(net), stages=[Late()]), make_batches(1))


def test_what_hooks_of_the_user_do_to_the_input_is_done_once_a_pass():
    net = make_net(dropout=0.0)
    net.register_forward_pre_hook(
        lambda module, args, kwargs: (args, dict(kwargs, inputs=kwargs['inputs'] * 3)), with_kwargs=True
    )
    batches = make_batches(1)
    look_twice(net, batches)
    assert [torch.equal(seen['inputs'], 3 * batches[0]['inputs']) for seen in net.seen] == [True, True]


def test_both_passes_see_the_weights_as_they_are_within_an_autocast_further_out():
    """It keeps bfloat16 copies of the weights until it ends."""
    inside, around = make_net(dropout=0.0), make_net(dropout=0.0)
    stages = dict(sam=dict(type='SAM', rho=0.5))
    train(inside, ComposedOptimWrapper(sgd(inside), stages=stages, amp='bfloat16'), make_batches(1))
    with torch.autocast('cpu', torch.bfloat16):
        train(around, ComposedOptimWrapper(sgd(around), stages=stages), make_batches(1))
        logits_after = around.conv(make_batches(1)[0]['inputs'])
    assert_same(around, inside)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(logits_after, inside.conv(make_batches(1)[0]['inputs']))


def test_tensors_of_a_micro_batch_are_let_go():
    net = make_net()
    _, wrapper, _ = look_twice(net, make_batches(1))
    assert wrapper._batch is None
    assert not net._forward_hooks
    assert not net._forward_pre_hooks
