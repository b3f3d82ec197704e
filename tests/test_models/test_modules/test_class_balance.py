"""What a head does about classes with few images."""

import copy

import pytest
import torch
from mmengine.model import ExponentialMovingAverage

from hybridcls.functional.imbalance import balanced_class_weights, effective_class_weights, log_priors
from hybridcls.models.modules.class_balance import ClassBalance

COUNTS = torch.tensor([6, 2, 0])


def balance(*args, **keys):
    module = ClassBalance('Head', 3, *args, **keys)
    if module.setting:
        module.set_counts(COUNTS, 8)
    return module


def test_off_there_is_nothing():
    module = balance()
    assert (module.weight, module.loss_adjustment, module.score_adjustment, module.setting) == (None, None, None, '')
    assert not module.state_dict()
    assert module.sample_weights(torch.tensor([0])) is None
    logits = torch.ones(1, 3)
    assert module.scored(logits) is logits


@pytest.mark.parametrize(
    ('class_weight', 'expected'),
    [
        ('balanced', balanced_class_weights(COUNTS)),
        ('effective', effective_class_weights(COUNTS, 0.9999)),
        (dict(type='effective', beta=0.5), effective_class_weights(COUNTS, 0.5)),
        (dict(beta=0.5), effective_class_weights(COUNTS, 0.5)),
        ([1.0, 2.0, 0.5], torch.tensor([1.0, 2.0, 0.5])),
    ],
)
def test_weights(class_weight, expected):
    module = balance(class_weight)
    torch.testing.assert_close(module.weight, expected.float())
    torch.testing.assert_close(module.sample_weights(torch.tensor([1, 0])), expected.float()[[1, 0]])
    soft = torch.tensor([[0.25, 0.75, 0.0]])
    torch.testing.assert_close(module.sample_weights(soft), (0.25 * expected[:1] + 0.75 * expected[1:2]).float())


def test_an_adjustment_of_the_loss_leaves_the_scores():
    module = balance(logit_adjustment=1.5).eval()
    torch.testing.assert_close(module.loss_adjustment, (1.5 * log_priors(COUNTS)).float())
    assert module.score_adjustment is None


def test_a_post_hoc_adjustment_is_that_of_scores_in_eval_mode():
    module = balance(logit_adjustment=dict(post_hoc=True))
    logits = torch.zeros(1, 3)
    assert module.loss_adjustment is None
    assert module.scored(logits) is logits  # in training
    torch.testing.assert_close(module.eval().scored(logits), -log_priors(COUNTS).float().unsqueeze(0))


def test_what_is_said():
    assert ClassBalance('Head', 3, 'balanced').set_counts(COUNTS, 8) == "class_weight='balanced' from 0.667 to 2"
    assert ClassBalance('Head', 3, None, 2.0).set_counts(COUNTS, 8) == 'logit_adjustment from -4.39 to -0.811'


def test_an_average_of_the_model_pairs_its_buffers():
    """mmengine's EMA pairs buffers by their order: a new one would shift all behind it."""
    model = torch.nn.Sequential(ClassBalance('Head', 3, 'balanced'), torch.nn.BatchNorm1d(2))
    average = ExponentialMovingAverage(copy.deepcopy(model))
    model[0].set_counts(COUNTS, 8)
    model[1].running_mean.fill_(7)
    average.update_parameters(model)
    average.update_parameters(model)
    assert average.module[0].counts.tolist() == [6, 2, 0, 8]
    assert average.module[1].running_mean.tolist() == [7, 7]


@pytest.mark.parametrize(
    ('keys', 'message'),
    [
        (dict(class_weight='balanced', logit_adjustment=1.0), 'each make up for .* twice. Drop one'),
        (dict(class_weight='balancd'), "expected class_weight to be one of .* Did you mean 'balanced'"),
        (dict(class_weight=dict(type='effective', beta=1.0)), r'expected beta in \[0, 1\), got 1.0'),
        (dict(class_weight=dict(type='balanced', beta=0.5)), "with a beta to be one of .*'effective'.*got 'balanced'"),
        (dict(class_weight=[1.0]), 'expected class_weight to have num_classes=3 numbers, got 1'),
        (dict(logit_adjustment=0), 'expected logit_adjustment in .* None switches it off'),
    ],
)
def test_what_does_not_work_is_named(keys, message):
    with pytest.raises(ValueError, match=message):
        ClassBalance('Head', 3, **keys)


def test_numbers_and_an_adjustment_go_together():
    module = balance([1.0, 2.0, 3.0], 1.0)
    assert module.weight.tolist() == [1, 2, 3]
    assert module.loss_adjustment is not None
