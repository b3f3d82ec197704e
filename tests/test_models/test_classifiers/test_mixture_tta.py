import pytest
import scipy.stats
import torch
from mmpretrain.structures import DataSample

from hybridcls.registry import MODELS

PARTS = dict(
    type='HybridClassifier', backbone=dict(type='LeNet5', num_classes=-1), neck=dict(type='GlobalAveragePooling')
)


def build(**head):
    torch.manual_seed(0)
    return MODELS.build(dict(type='MixtureTTA', module=dict(**PARTS, head=dict(in_channels=120, **head)))).eval()


def views(count=3):
    """A batch of two images in so many views each, as a loader with TestTimeAug gives it."""
    images = 255 * torch.rand(count, 2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    return dict(
        inputs=[list(view) for view in images],
        data_samples=[
            [
                DataSample(metainfo=dict(view=number, img_path=name)).set_gt_label(label)
                for name, label in (('a.png', 2), ('b.png', 0))
            ]
            for number in range(count)
        ],
    )


def alone(model, batch):
    return [
        model.module.test_step({key: values[number] for key, values in batch.items()})
        for number in range(len(batch['inputs']))
    ]


def test_views_of_a_plain_classifier_are_members():
    model = build(type='LinearHead', num_classes=3)
    joined = model.test_step(views())
    members = alone(model, views())
    for row, sample in enumerate(joined):
        scores = torch.stack([view[row].pred_score for view in members])
        torch.testing.assert_close(sample.pred_score, scores.mean(0))
        assert sample.aleatoric.item() == pytest.approx(scipy.stats.entropy(scores, axis=1).mean(), rel=1e-5)
        assert sample.total.item() == pytest.approx(scipy.stats.entropy(scores.mean(0)), rel=1e-5)
        torch.testing.assert_close(sample.embedding, torch.stack([view[row].embedding for view in members]).mean(0))
        assert sample.gt_label.item() == (2, 0)[row]
        assert (sample.img_path, sample.view) == (('a.png', 'b.png')[row], 0)


def test_the_label_is_that_of_the_mean_score():
    samples = [
        DataSample().set_pred_score(score).set_pred_label(label) for score, label in (([0.6, 0.4], 0), ([0.0, 1.0], 1))
    ]
    assert build(type='LinearHead', num_classes=2).merge_preds([samples])[0].pred_label.tolist() == [1]


def test_views_of_an_evidential_head_keep_their_own_uncertainty():
    model = build(type='EvidentialHead', num_classes=3, loss=dict(evidence='softplus'))
    torch.nn.init.normal_(model.module.head.fc.weight, std=10.0)
    members = alone(model, views())
    for row, sample in enumerate(model.test_step(views())):
        mean = torch.stack([view[row].pred_score for view in members]).mean(0)
        for field in ('aleatoric', 'vacuity'):
            torch.testing.assert_close(sample.get(field), sum(view[row].get(field) for view in members) / 3)
        assert sample.total.item() == pytest.approx(scipy.stats.entropy(mean), rel=1e-5)
        torch.testing.assert_close(sample.epistemic, sample.total - sample.aleatoric)
        assert sample.epistemic > 1.001 * sum(view[row].epistemic for view in members) / 3  # they disagree, too


def test_views_that_agree_change_nothing():
    model = build(type='EvidentialHead', num_classes=3)
    batch = views(1)
    (expected,) = alone(model, batch)
    joined = model.test_step({key: values * 3 for key, values in batch.items()})
    for sample, view in zip(joined, expected, strict=True):
        for field in ('pred_score', 'vacuity', 'aleatoric', 'epistemic', 'total', 'embedding'):
            torch.testing.assert_close(sample.get(field), view.get(field), rtol=1e-4, atol=1e-6)


def test_a_head_without_scores_leaves_the_embedding():
    heads = dict(contrast=dict(type='SupConHead'), evidence=dict(type='EvidentialHead'))
    model = build(type='MultiHead', num_classes=3, heads=heads)
    first, second = alone(model, views(2))
    for row, sample in enumerate(model.test_step(views(2))):
        mean = (first[row].embedding + second[row].embedding) / 2
        for prediction in (sample, sample.heads.contrast, sample.heads.evidence):
            torch.testing.assert_close(prediction.embedding, mean)
        assert 'pred_score' not in sample.heads.contrast
        torch.testing.assert_close(sample.heads.evidence.epistemic, sample.epistemic)
        assert sample.heads.evidence.epistemic != first[row].epistemic
    assert 'pred_score' not in build(type='SupConHead').test_step(views(2))[0]


def test_members_and_views_are_members_together():
    parts = dict(PARTS, head=dict(type='LinearHead', num_classes=3, in_channels=120))
    torch.manual_seed(0)
    ensemble = MODELS.build({**parts, 'type': 'EnsembleClassifier', 'members': [{}, {}]}).eval()
    model = MODELS.build(dict(type='MixtureTTA', module=ensemble))
    sample = model.test_step(views(2))[0]
    scores = torch.stack(
        [
            member.test_step({key: values[number] for key, values in views(2).items()})[0].pred_score
            for member in ensemble.members
            for number in range(2)
        ]
    )
    assert sample.total.item() == pytest.approx(scipy.stats.entropy(scores.mean(0)), rel=1e-5)
    assert sample.aleatoric.item() == pytest.approx(scipy.stats.entropy(scores, axis=1).mean(), rel=1e-5)
