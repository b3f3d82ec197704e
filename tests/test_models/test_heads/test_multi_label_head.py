"""Several labels an image."""

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample

from hybridcls.registry import MODELS

LABELS = [[0, 2], [], [1]]
TARGETS = torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 0]])


def build(**keys):
    torch.manual_seed(0)
    head = MODELS.build(dict(type='MultiLabelHead', num_classes=3, in_channels=5, **keys))
    torch.nn.init.normal_(head.fc.weight)
    return head


def samples(labels=LABELS):
    return [DataSample().set_gt_label(own) for own in labels]


def feats(rows=3):
    return torch.randn(rows, 5, generator=torch.Generator().manual_seed(0))


def test_binary_cross_entropy_is_summed_over_classes_and_averaged_over_images():
    head = build()
    probability = head.fc(feats()).double().sigmoid()
    expected = -(TARGETS * probability.log() + (1 - TARGETS) * (1 - probability).log()).sum() / 3
    assert list(head.loss((feats(),), samples())) == ['loss']
    torch.testing.assert_close(head.loss((feats(),), samples())['loss'].double(), expected, rtol=1e-5, atol=0)


def test_views_and_soft_labels():
    head, soft = build(), torch.tensor([[0.3, 0.7, 0.0], [0.0, 0.0, 1.0]])
    expected = F.binary_cross_entropy_with_logits(head.fc(feats(4)), soft.repeat(2, 1)) * 3
    loss = head.loss((feats(4),), [DataSample().set_gt_score(score) for score in soft])['loss']
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize('loss', [None, dict(type='AsymmetricLoss', gamma_neg=0, clip=0)])
def test_weights_of_positives_from_counts(loss):
    head = build(pos_weight='balanced', loss=loss)
    assert head.needs_class_counts
    assert head.set_class_counts(torch.tensor([2, 5, 10]), 10) == "pos_weight='balanced' from 0 to 4"
    expected = F.binary_cross_entropy_with_logits(
        head.fc(feats()), TARGETS, pos_weight=torch.tensor([4.0, 1.0, 0.0]), reduction='sum'
    )
    torch.testing.assert_close(head.loss((feats(),), samples())['loss'], expected / 3)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('loss', [None, dict(type='AsymmetricLoss')])
def test_the_loss_is_float32_under_autocast(dtype, loss):
    head = build(loss=loss)
    with torch.autocast('cpu', dtype):
        found = head.loss((feats(),), samples())['loss']
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, head.loss((feats(),), samples())['loss'], rtol=2e-2, atol=0)
    found.backward()
    assert head.fc.weight.grad.isfinite().all()


def test_predictions_are_the_classes_above_their_thresholds():
    head = build(thresholds=[0.2, 0.5, 0.9]).eval()
    found = head.predict((feats(),), samples())
    scores = head.fc(feats()).sigmoid()
    for sample, score, labels in zip(found, scores, LABELS, strict=True):
        torch.testing.assert_close(sample.pred_score, score.detach())
        expected = [number for number, low in enumerate((0.2, 0.5, 0.9)) if score[number] >= low]
        assert sample.pred_label.tolist() == expected
        torch.testing.assert_close(sample.thresholds, torch.tensor([0.2, 0.5, 0.9]))
        assert sample.gt_label.tolist() == labels
        assert sample.embedding.shape == (5,)
    assert len({tuple(sample.pred_label.tolist()) for sample in found}) > 1


def test_views_are_averaged_as_probabilities():
    head = build().eval()
    (sample,) = head.predict((feats(2),), samples([[0]]))
    torch.testing.assert_close(sample.pred_score, head.fc(feats(2)).sigmoid().mean(0).detach())


def test_a_loss_that_takes_no_weights_of_positives_is_refused():
    with pytest.raises(ValueError, match='MultiLabelHead: expected a loss that takes pos_weight, got MSELoss'):
        build(pos_weight='balanced', loss=dict(type='torch.nn.MSELoss'))
    assert build(loss=dict(type='torch.nn.MSELoss')).loss((feats(),), samples())['loss'] > 0


def test_an_image_without_gt_label_is_named():
    with pytest.raises(ValueError, match=r'MultiLabelHead: expected a gt_label for sample 0 of the batch, got none\.'):
        build().loss((feats(1),), [DataSample()])


def test_fit_is_a_minimum_of_the_loss():
    torch.manual_seed(0)
    targets = torch.rand(80, 3).round()
    embeddings = torch.randn(80, 5)
    embeddings[:, :3] += targets
    head = MODELS.build(dict(type='MultiLabelHead', num_classes=3, in_channels=5))
    head.fit(embeddings, targets)
    loss = F.binary_cross_entropy_with_logits(head.fc(embeddings), targets)
    assert torch.autograd.grad(loss, head.fc.bias)[0].norm() < 1e-4
