"""The linear head, with cross entropy or any loss of logits."""

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample
from torch import nn

from hybridcls.registry import MODELS


def build(**keys):
    torch.manual_seed(0)
    return MODELS.build(dict(type='LinearHead', num_classes=3, in_channels=5, **keys))


def hard(*labels):
    return [DataSample().set_gt_label(label) for label in labels]


def log_probabilities(head, feats):
    return (feats @ head.fc.weight.t() + head.fc.bias).log_softmax(1)


@pytest.mark.parametrize('smoothing', [0.0, 0.2])
def test_cross_entropy_with_smoothing(smoothing):
    head, feats, labels = build(label_smoothing=smoothing), torch.randn(4, 5), torch.tensor([0, 2, 1, 2])
    target = F.one_hot(labels, 3) * (1 - smoothing) + smoothing / 3
    expected = -(target * log_probabilities(head, feats)).sum(1).mean()
    torch.testing.assert_close(head.loss((feats,), hard(0, 2, 1, 2))['loss'], expected)


def test_soft_labels_of_several_views():
    head, feats = build(), torch.randn(4, 5)
    target = torch.tensor([[0.3, 0.7, 0.0], [0.0, 0.0, 1.0]])
    losses = head.loss((feats,), [DataSample().set_gt_score(score) for score in target])
    torch.testing.assert_close(losses['loss'], -(target.repeat(2, 1) * log_probabilities(head, feats)).sum(1).mean())
    assert list(losses) == ['loss']  # no accuracy of mixed labels


def test_class_weight_divides_by_the_samples():
    head, feats = build(class_weight=[1.0, 0.0, 5.0]), torch.randn(3, 5)
    log_p = log_probabilities(head, feats)
    expected = -(log_p[0, 0] + 0 * log_p[1, 1] + 5 * log_p[2, 2]) / 3
    torch.testing.assert_close(head.loss((feats,), hard(0, 1, 2))['loss'], expected)
    assert set(head.state_dict()) == {'fc.weight', 'fc.bias'}


@pytest.mark.parametrize('smoothing', [0.0, 0.2])
@pytest.mark.parametrize('soft', [False, True])
def test_weights_from_counts_are_those_of_torchs_cross_entropy(soft, smoothing):
    head, feats = build(class_weight='balanced', label_smoothing=smoothing), torch.randn(4, 5)
    head.set_class_counts(torch.tensor([6, 2, 4]), 12)
    targets = torch.rand(4, 3).softmax(1) if soft else torch.tensor([0, 2, 1, 2])
    samples = [DataSample().set_gt_score(row) for row in targets] if soft else hard(*targets.tolist())
    weight = torch.tensor([12 / 18, 12 / 6, 12 / 12])
    expected = F.cross_entropy(head.fc(feats), targets, weight, label_smoothing=smoothing, reduction='sum') / 4
    torch.testing.assert_close(head.loss((feats,), samples)['loss'], expected)
    assert head.state_dict()['class_balance.counts'].tolist() == [6, 2, 4, 12]


@pytest.mark.parametrize('loss', [None, dict(type='torch.nn.CrossEntropyLoss')])
def test_logit_adjustment_moves_the_logits_of_the_loss_alone(loss):
    head, feats = build(logit_adjustment=2.0, loss=loss), torch.randn(4, 5)
    head.set_class_counts(torch.tensor([6, 2, 0]), 8)
    logits = head.fc(feats)
    prior = 2 * torch.tensor([6 / 9, 2 / 9, 1 / 9]).log()
    losses = head.loss((feats,), hard(0, 2, 1, 2))
    torch.testing.assert_close(losses['loss'], F.cross_entropy(logits + prior, torch.tensor([0, 2, 1, 2])))
    right = (logits.argmax(1) == torch.tensor([0, 2, 1, 2])).float().mean() * 100
    assert losses['accuracy_top-1'] == right
    for module in (head, head.eval()):
        torch.testing.assert_close(module((feats,)), logits)


def test_post_hoc_adjustment_moves_scores_in_eval_mode_alone():
    head, feats = build(logit_adjustment=dict(tau=2.0, post_hoc=True)), torch.randn(4, 5)
    head.set_class_counts(torch.tensor([6, 2, 4]), 12)
    logits = head.fc(feats)
    expected = F.cross_entropy(logits, torch.tensor([0, 2, 1, 2]))
    torch.testing.assert_close(head.loss((feats,), hard(0, 2, 1, 2))['loss'], expected)
    torch.testing.assert_close(head((feats,)), logits)
    scores = logits.softmax(1) / torch.tensor([6.0, 2.0, 4.0]) ** 2
    predicted = torch.stack([sample.pred_score for sample in head.eval().predict((feats,))])
    torch.testing.assert_close(predicted, scores / scores.sum(1, keepdim=True))
    torch.testing.assert_close(head.loss((feats,), hard(0, 2, 1, 2))['loss'], expected)


def test_without_counts_there_is_a_sentence():
    with pytest.raises(RuntimeError, match=r'LinearHead: expected the number of training images .* for class_weight'):
        build(class_weight='balanced').loss((torch.randn(1, 5),), hard(0))


def test_accuracies_in_percent():
    head = build(topk=(1, 2))
    with torch.no_grad():
        head.fc.weight.copy_(torch.eye(3, 5))
        head.fc.bias.zero_()
    feats = torch.tensor([[3.0, 2.0, 1.0, 0.0, 0.0]]).repeat(4, 1)
    losses = head.loss((feats,), hard(0, 1, 2, 2))
    assert losses['accuracy_top-1'] == 25
    assert losses['accuracy_top-2'] == 50


def test_init_weights_draws_small_normal_numbers():
    head = MODELS.build(dict(type='LinearHead', num_classes=200, in_channels=100))
    head.init_weights()
    assert head.fc.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert head.fc.bias.abs().sum() == 0
    assert isinstance(head.fc, nn.Linear)


@pytest.mark.parametrize(
    'keys',
    [dict(label_smoothing=1.0), dict(topk=4), dict(class_weight=[1.0, 2.0]), dict(class_weight=[1.0, 1.0, -1.0])],
)
def test_wrong_settings_fail_when_built(keys):
    (name,) = keys
    with pytest.raises(ValueError, match=f'LinearHead: (expected )?{name} '):
        build(**keys)


def test_num_classes_is_an_integer_above_zero():
    with pytest.raises(ValueError, match=r'LinearHead: expected num_classes in .* got 0'):
        MODELS.build(dict(type='LinearHead', num_classes=0, in_channels=5))


@pytest.mark.parametrize(
    'loss',
    [
        dict(type='CrossEntropyLoss', loss_weight=0.5, class_weight=[1.0, 2.0, 3.0]),
        dict(type='LabelSmoothLoss', label_smooth_val=0.2),
        dict(type='FocalLoss'),  # divides by N, not by N x C
    ],
)
@pytest.mark.parametrize('soft', [False, True])
def test_losses_of_mmpretrain_are_what_its_own_head_computes(loss, soft):
    feats, samples = torch.randn(4, 5), hard(0, 2, 1, 2)
    if soft:
        samples = [DataSample().set_gt_score(score) for score in torch.rand(4, 3).softmax(1)]
    head = build(loss=loss)
    reference = MODELS.build(dict(type='LinearClsHead', num_classes=3, in_channels=5, loss=loss))
    reference.load_state_dict(head.state_dict())
    torch.testing.assert_close(head.loss((feats,), samples)['loss'], reference.loss((feats,), samples)['loss'])


def test_plain_losses_of_logits_and_targets():
    feats, samples = torch.randn(4, 5), hard(0, 2, 1, 2)
    for loss in (dict(type='torch.nn.MultiMarginLoss', margin=0.5), nn.MultiMarginLoss(margin=0.5)):
        head = build(loss=loss)
        logits = head((feats,))
        margins = 0.5 - logits.gather(1, torch.tensor([[0], [2], [1], [2]])) + logits
        expected = (margins.clamp(min=0).sum() - 4 * 0.5) / 12
        torch.testing.assert_close(head.loss((feats,), samples)['loss'], expected)
        assert head.loss((feats,), samples)['accuracy_top-1'].dim() == 0


def test_losses_that_cannot_be_used():
    with pytest.raises(ValueError, match=r'label_smoothing=0\.1 is for .* Write label_smoothing=0\.0 beside'):
        build(loss=dict(type='CrossEntropyLoss'), label_smoothing=0.1)
    with pytest.raises(
        ValueError, match=r'label_smoothing=0\.1 and class_weight are .*=0\.0, class_weight=None beside'
    ):
        build(loss=dict(type='CrossEntropyLoss'), label_smoothing=0.1, class_weight=[1.0] * 3)
    with pytest.raises(TypeError, match=r'expected a scalar from its loss CrossEntropyLoss, got shape \(2,\)'):
        build(loss=dict(type='torch.nn.CrossEntropyLoss', reduction='none')).loss((torch.randn(2, 5),), hard(0, 1))


@pytest.mark.parametrize('keys', [dict(), dict(class_weight=[0.2, 1.0, 3.0]), dict(label_smoothing=0.1)])
def test_fit_is_a_minimum_of_the_loss(keys):
    """The gradient of the (weighted) cross entropy is that of the penalty alone, which is small."""
    torch.manual_seed(0)
    labels = torch.arange(60) % 3
    embeddings = torch.randn(60, 5) + torch.nn.functional.one_hot(labels, 5)
    head = MODELS.build(dict(type='LinearHead', num_classes=3, in_channels=5, **keys))
    weights = torch.tensor(keys.get('class_weight', [1.0] * 3))

    def loss():
        return F.cross_entropy(head.fc(embeddings), labels, weights, reduction='none').mean()

    at_random = torch.autograd.grad(loss(), head.fc.bias)[0].norm()
    assert 'logistic regression' in head.fit(embeddings, labels)
    assert torch.autograd.grad(loss(), head.fc.bias)[0].norm() < 1e-4 < at_random
