"""The evidential head: losses and uncertainties."""

import pytest
import torch
from mmengine.logging import MessageHub
from mmpretrain.evaluation import Accuracy, SingleLabelMetric
from mmpretrain.structures import DataSample

from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.functional.evidential import dirichlet_uncertainty
from hybridcls.registry import MODELS


def build(**keys):
    torch.manual_seed(0)
    return MODELS.build(dict(type='EvidentialHead', num_classes=3, in_channels=5, **keys))


def hard(*labels):
    return [DataSample().set_gt_label(label) for label in labels]


def embeddings(rows):
    return 4 * torch.randn(rows, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('evidence', ['exp', 'softplus', 'relu'])
def test_scores_are_the_mean_of_the_distribution(evidence):
    head, feats = build(loss=dict(evidence=evidence)), embeddings(6)
    outputs = (feats @ head.fc.weight.t() + head.fc.bias).detach()
    alpha = {'exp': outputs.exp(), 'softplus': outputs.exp().log1p(), 'relu': outputs.clamp_min(0)}[evidence] + 1
    out = head.predict((feats,))
    scores = torch.stack([sample.pred_score for sample in out])
    torch.testing.assert_close(scores, alpha / alpha.sum(1, keepdim=True))
    assert (scores - outputs.softmax(1)).abs().max() > 0.05
    torch.testing.assert_close(head(feats).exp().detach(), alpha)
    torch.testing.assert_close(head(feats).softmax(1).detach(), scores)
    assert [sample.pred_label.item() for sample in out] == scores.argmax(1).tolist()


def test_predictions_carry_their_uncertainty():
    head, feats = build(), embeddings(6)
    expected = dirichlet_uncertainty(head.evidence(feats).detach())
    for name, values in expected._asdict().items():
        found = torch.stack([sample.get(name) for sample in head.predict(feats)])
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, values)


def test_evidence_of_views_is_averaged():
    head, feats = build(), embeddings(6)
    out = head.predict(feats, hard(0, 1))
    alpha = head.evidence(feats).detach().reshape(3, 2, 3).mean(0) + 1
    for row, sample in enumerate(out):
        torch.testing.assert_close(sample.pred_score, alpha[row] / alpha[row].sum())
        torch.testing.assert_close(sample.vacuity, 3 / alpha[row].sum())
        torch.testing.assert_close(sample.aleatoric + sample.epistemic, sample.total)
        torch.testing.assert_close(sample.embedding, feats.reshape(3, 2, 5)[:, row].mean(0))


def test_soft_labels_of_several_views():
    head, feats = build(), embeddings(4)
    target = torch.tensor([[0.3, 0.7, 0.0], [0.0, 0.0, 1.0]])
    losses = head.loss((feats,), [DataSample().set_gt_score(score) for score in target])
    expected = head.loss_module(head.fc(feats), target.repeat(2, 1))
    torch.testing.assert_close(losses['loss'], expected)
    assert 'accuracy_top-1' not in losses


def test_what_is_logged():
    with isolated_globals():
        hub = MessageHub.get_instance('a run')
        hub.update_info('epoch', 5)
        losses = build().loss(embeddings(3), hard(0, 1, 2))
    assert losses['kl_weight'] == 0.5
    head = build()
    terms = head.loss_module.terms(head.evidence(embeddings(3)), torch.tensor([0, 1, 2]), position=5)
    torch.testing.assert_close(losses['kl'], terms.kl)
    torch.testing.assert_close(losses['loss'], terms.data + 0.5 * terms.kl)
    assert not losses['kl'].requires_grad


def test_mmpretrains_metrics_read_the_predictions():
    head, feats = build(), embeddings(8)
    samples = head.predict(feats, hard(0, 1, 2, 0, 1, 2, 0, 1))
    right = sum(sample.pred_label.item() == sample.gt_label.item() for sample in samples)
    for metric in (Accuracy(), SingleLabelMetric(items=('precision', 'recall'))):
        metric.process(None, [sample.to_dict() for sample in samples])
        result = metric.evaluate(8)
    assert set(result) == {'single-label/precision', 'single-label/recall'}
    metric = Accuracy()
    metric.process(None, [sample.to_dict() for sample in samples])
    assert metric.evaluate(8)['accuracy/top1'] == pytest.approx(100 * right / 8)


def test_one_class_is_certain():
    (sample,) = MODELS.build(dict(type='EvidentialHead', num_classes=1, in_channels=5)).predict(embeddings(1))
    assert [sample.get(name).item() for name in ('aleatoric', 'epistemic', 'total')] == [0.0, 0.0, 0.0]
    assert 0 < sample.vacuity.item() < 1
    assert sample.pred_score.tolist() == [1.0]


def test_a_wrong_key_of_the_loss_is_named():
    with pytest.raises((TypeError, ValueError), match='anealing'):
        build(loss=dict(anealing=3))


def test_a_loss_that_knows_no_evidence():
    with pytest.raises(
        TypeError, match=r'expected an EvidentialLoss, got .* LinearHead, which takes any loss of logits'
    ):
        MODELS.build(dict(type='EvidentialHead', num_classes=3, in_channels=4, loss=dict(type='CrossEntropyLoss')))


def test_weights_of_classes_multiply_the_whole_loss_of_a_sample():
    plain, weighted = build(), build(class_weight='balanced')
    weighted.set_class_counts(torch.tensor([6, 2, 4]), 12)
    weight = torch.tensor([12 / 18, 12 / 6, 1.0])
    each = [plain.loss((embeddings(3)[row : row + 1],), hard(row)) for row in range(3)]
    losses = weighted.loss((embeddings(3),), hard(0, 1, 2))
    for name in ('loss', 'kl'):
        expected = sum(w * one[name] for w, one in zip(weight, each, strict=True)) / 3
        torch.testing.assert_close(losses[name], expected)
    soft = [DataSample().set_gt_score(torch.tensor([0.5, 0.5, 0.0]))]
    expected = plain.loss((embeddings(1),), soft)['loss'] * weight[:2].mean()
    torch.testing.assert_close(weighted.loss((embeddings(1),), soft)['loss'], expected)


def test_adjusted_logits_of_the_log_form_are_those_of_cross_entropy():
    head = build(loss=dict(form='log', kl_weight=0.0), logit_adjustment=1.5)
    head.set_class_counts(torch.tensor([6, 2, 4]), 12)
    prior = 1.5 * torch.tensor([0.5, 1 / 6, 1 / 3]).log()
    logits = head((embeddings(4),))
    expected = torch.nn.functional.cross_entropy(logits + prior, torch.tensor([0, 1, 2, 2]))
    torch.testing.assert_close(head.loss((embeddings(4),), hard(0, 1, 2, 2))['loss'], expected)


def test_the_adjusted_digamma_form_bounds_the_expected_cross_entropy():
    """The mean over many draws of the Dirichlet distribution lies below, and not far."""
    head = build(loss=dict(kl_weight=0.0), logit_adjustment=1.0)
    head.set_class_counts(torch.tensor([90, 9, 1]), 100)
    prior = torch.tensor([0.9, 0.09, 0.01]).log()
    alpha = head((embeddings(1),)).exp().detach()
    drawn = torch.distributions.Dirichlet(alpha[0]).sample((200_000,)).clamp_min(1e-30).log()
    expected = torch.nn.functional.cross_entropy(drawn + prior, torch.full((200_000,), 2)).item()
    found = head.loss((embeddings(1),), hard(2))['loss'].item()
    assert expected - 0.05 < found < expected + 0.5


def test_post_hoc_adjustment_changes_scores_not_uncertainties():
    plain, head = build().eval(), build(logit_adjustment=dict(post_hoc=True)).eval()
    head.set_class_counts(torch.tensor([6, 2, 4]), 12)
    before, after = plain.predict((embeddings(1),))[0], head.predict((embeddings(1),))[0]
    expected = before.pred_score / torch.tensor([6.0, 2.0, 4.0])
    torch.testing.assert_close(after.pred_score, expected / expected.sum())
    torch.testing.assert_close(head((embeddings(1),)).softmax(1)[0].detach(), after.pred_score)
    assert after.vacuity == before.vacuity
    assert after.epistemic == before.epistemic


def test_an_adjustment_needs_a_cross_entropy():
    with pytest.raises(
        ValueError, match=r"EvidentialHead: logit_adjustment is defined for .*'sum_of_squares' is not one"
    ):
        build(loss=dict(form='sum_of_squares'), logit_adjustment=1.0)
    build(loss=dict(form='sum_of_squares'), logit_adjustment=dict(post_hoc=True))


@pytest.mark.parametrize('balance', [dict(), dict(class_weight='balanced'), dict(logit_adjustment=1.0)])
def test_fit_is_a_minimum_of_the_loss(balance):
    """With the full weight of the KL; at random the gradient is large."""
    torch.manual_seed(0)
    labels = (torch.arange(60) % 9).clamp(max=2)  # 7, 7 and 46 images
    embeddings = torch.randn(60, 5) + 2 * torch.nn.functional.one_hot(labels, 5)
    head = MODELS.build(dict(type='EvidentialHead', num_classes=3, in_channels=5, **balance))
    if balance:
        head.set_class_counts(torch.bincount(labels), 60)

    def gradient():
        with isolated_globals():
            MessageHub.get_instance('a run').update_info('epoch', 10)
            loss = head.loss((embeddings,), hard(*labels.tolist()))['loss']
        return torch.autograd.grad(loss, head.fc.bias)[0].norm()

    at_random = gradient()
    head.fit(embeddings, labels)
    assert gradient() < 1e-3 < at_random
    assert (head((embeddings,)).argmax(1) == labels).float().mean() > 0.8
