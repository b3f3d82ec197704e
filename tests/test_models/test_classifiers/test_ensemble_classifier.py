"""Ensembles of checkpoints."""

import pytest
import scipy.stats
import torch
from mmpretrain.structures import DataSample

from hybridcls.registry import MODELS

PARTS = dict(
    backbone=dict(type='LeNet5', num_classes=-1),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearHead', num_classes=3, in_channels=120),
)


def images(count=4):
    return torch.rand(count, 1, 32, 32, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def trained(tmp_path):
    """Three classifiers of different weights, and their checkpoints."""
    models = []
    for seed in range(3):
        torch.manual_seed(seed)
        model = MODELS.build(dict(type='HybridClassifier', **PARTS)).eval()
        for parameter in model.parameters():
            parameter.data *= 3
        torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / f'{seed}.pth')
        models.append(model)
    return models, [str(tmp_path / f'{seed}.pth') for seed in range(3)]


def test_scores_are_averaged_and_disagreement_is_reported(trained):
    models, checkpoints = trained
    ensemble = MODELS.build(dict(type='EnsembleClassifier', members=checkpoints, **PARTS)).eval()
    given = [DataSample().set_gt_label(label) for label in (0, 1, 2, 0)]
    out = ensemble.predict(images(), given)
    assert out[0] is given[0]
    scores = torch.stack([model(images()).softmax(1) for model in models]).detach()
    for row, sample in enumerate(out):
        mean = scores[:, row].mean(0)
        torch.testing.assert_close(sample.pred_score, mean)
        assert sample.pred_label.item() == mean.argmax()
        assert sample.total.item() == pytest.approx(scipy.stats.entropy(mean), rel=1e-5)
        assert sample.aleatoric.item() == pytest.approx(scipy.stats.entropy(scores[:, row], axis=1).mean(), rel=1e-5)
        assert sample.epistemic.item() > 0
        assert sample.gt_label.item() == (0, 1, 2, 0)[row]
    torch.testing.assert_close(ensemble(images()).softmax(1), scores.mean(0))
    torch.testing.assert_close(out[0].embedding, models[0].extract_feat(images())[-1][0].detach())
    step = ensemble.test_step(dict(inputs=255 * images(), data_samples=given))
    torch.testing.assert_close(step[1].pred_score, out[1].pred_score)


def test_its_own_checkpoint_holds_all_members(trained):
    ensemble = MODELS.build(dict(type='EnsembleClassifier', members=trained[1], **PARTS)).eval()
    other = MODELS.build(dict(type='EnsembleClassifier', members=[{}, {}, {}], **PARTS)).eval()
    other.load_state_dict(ensemble.state_dict())
    torch.testing.assert_close(other(images()), ensemble(images()))


def test_members_may_differ(trained):
    evidential = dict(head=dict(type='EvidentialHead', num_classes=3, in_channels=120))
    ensemble = MODELS.build(dict(type='EnsembleClassifier', members=[trained[1][0], evidential], **PARTS)).eval()
    sample = ensemble.predict(images())[0]
    second = ensemble.members[1].predict(images())[0]
    torch.testing.assert_close(
        sample.pred_score, (trained[0][0].predict(images())[0].pred_score + second.pred_score) / 2
    )
    torch.testing.assert_close(sample.aleatoric + sample.epistemic, sample.total)


def test_evidential_members_keep_their_own_uncertainty():
    head = dict(type='EvidentialHead', num_classes=3, in_channels=120)
    ensemble = MODELS.build(dict(type='EnsembleClassifier', members=[{}, {}], **{**PARTS, 'head': head})).eval()
    sample = ensemble.predict(images())[0]
    members = [member.predict(images())[0] for member in ensemble.members]
    torch.testing.assert_close(sample.vacuity, torch.stack([m.vacuity for m in members]).mean())
    torch.testing.assert_close(sample.aleatoric, torch.stack([m.aleatoric for m in members]).mean())
    assert sample.epistemic >= torch.stack([m.epistemic for m in members]).mean() - 1e-6


def test_mistakes_are_answered(trained, tmp_path):
    def build(**keys):
        return MODELS.build(dict(type='EnsembleClassifier', **{**PARTS, **keys}))

    with pytest.raises(ValueError, match='expected members as a list of checkpoints'):
        build(members=[])
    with pytest.raises(FileNotFoundError, match=r'members\[1\]=.*7.pth.* does not exist'):
        build(members=[trained[1][0], str(tmp_path / '7.pth')])
    with pytest.raises(TypeError, match=r"members\[0\]: unknown key 'chekpoint'. Did you mean 'checkpoint'"):
        build(members=[dict(chekpoint='a')])
    with pytest.raises(ValueError, match=r'got members with \[3, 4\] classes'):
        build(members=[{}, dict(head=dict(type='LinearHead', num_classes=4, in_channels=120))])
    with pytest.raises(ValueError, match=r'members\[0\] has no backbone'):
        build(members=[{}], backbone=None)
    with pytest.raises(RuntimeError, match=r'other classes .* head.fc.weight is \(3, 120\) there and \(4, 120\) here'):
        build(members=[trained[1][0]], head=dict(type='LinearHead', num_classes=4, in_channels=120))
    with pytest.raises(ValueError, match='Train its members one by one'):
        build(members=[{}])(images(), [], mode='loss')
    with pytest.raises(ValueError, match='EnsembleClassifier: the head predicts no scores'):
        build(members=[{}], head=dict(type='SupConHead', in_channels=120)).predict(images())


def test_members_that_want_other_images():
    other = dict(data_preprocessor=dict(mean=[33.0], std=[79.0]))
    with pytest.raises(ValueError, match='the data preprocessors of the members differ in mean and std'):
        MODELS.build(dict(type='EnsembleClassifier', members=[{}, other], **PARTS))


def test_members_have_their_classes_in_one_order(trained):
    _, checkpoints = trained

    def name(number, classes):
        torch.save(
            {**torch.load(checkpoints[number]), 'meta': dict(dataset_meta=dict(classes=classes))}, checkpoints[number]
        )

    build = dict(type='EnsembleClassifier', members=checkpoints, **PARTS)
    assert MODELS.build(build).class_names is None
    name(1, ('ant', 'bee', 'cat'))
    name(2, ('ant', 'bee', 'cat'))
    assert MODELS.build(build).class_names.names == ('ant', 'bee', 'cat')
    name(2, ('bee', 'ant', 'cat'))
    with pytest.raises(ValueError, match=r"classes in one order, got \('bee', 'ant', 'cat'\) of members\[2\]"):
        MODELS.build(build)


def test_members_tell_how_their_images_were_read(trained):
    _, checkpoints = trained
    assert MODELS.build(dict(type='EnsembleClassifier', members=[{}], **PARTS)).preprocessing_version is None
    assert MODELS.build(dict(type='EnsembleClassifier', members=checkpoints, **PARTS)).preprocessing_version == 1
    checkpoint = torch.load(checkpoints[1])
    checkpoint['meta']['preprocessing_version'] = 2
    torch.save(checkpoint, checkpoints[1])
    with pytest.raises(ValueError, match=r'members of one preprocessing version, got \{0: 1, 1: 2, 2: 1\}'):
        MODELS.build(dict(type='EnsembleClassifier', members=checkpoints, **PARTS))
    assert MODELS.build(dict(type='EnsembleClassifier', members=checkpoints[1:2], **PARTS)).preprocessing_version == 2


def test_of_several_labels_the_sigmoids_are_averaged():
    torch.manual_seed(0)
    head = dict(type='MultiLabelHead', num_classes=3, in_channels=120, thresholds=0.4)
    ensemble = MODELS.build(dict(type='EnsembleClassifier', members=[{}, {}], **{**PARTS, 'head': head})).eval()
    for member in ensemble.members:
        torch.nn.init.normal_(member.head.fc.weight)
    expected = torch.stack([member(images()).sigmoid() for member in ensemble.members]).mean(0)
    torch.testing.assert_close(ensemble(images()).sigmoid(), expected)
    head = dict(type='mmpretrain.MultiLabelLinearClsHead', num_classes=3, in_channels=120)
    theirs = MODELS.build(dict(type='EnsembleClassifier', members=[{}, {}], **{**PARTS, 'head': head})).eval()
    theirs.load_state_dict(ensemble.state_dict(), strict=False)
    torch.testing.assert_close(theirs(images()), ensemble(images()))
    for sample, scores in zip(ensemble.predict(images()), expected, strict=True):
        torch.testing.assert_close(sample.pred_score, scores.detach())
        assert sample.pred_label.tolist() == (scores >= 0.4).nonzero().flatten().tolist()


@pytest.mark.parametrize('rule', [dict(thr=0.4), dict(topk=2)])
def test_labels_of_mmpretrains_heads_are_several(rule):
    head = dict(type='mmpretrain.MultiLabelLinearClsHead', num_classes=3, in_channels=120, **rule)
    theirs = MODELS.build(dict(type='EnsembleClassifier', members=[{}, {}], **{**PARTS, 'head': head})).eval()
    scores = torch.stack([member(images()).sigmoid() for member in theirs.members]).mean(0)
    each = [member.head.predict(member.extract_feat(images()))[0].pred_score for member in theirs.members]
    for sample, score in zip(theirs.predict(images()), scores, strict=True):
        expected = (score >= 0.4).nonzero().flatten() if 'thr' in rule else score.topk(2).indices
        assert sample.pred_label.tolist() == expected.tolist()
        assert ('thresholds' in sample) == ('thr' in rule)
    first = theirs.predict(images())[0]
    entropy = sum(-p * p.log() - (1 - p) * (1 - p).log() for p in torch.stack(each).mean(0))
    torch.testing.assert_close(first.total, entropy)  # of classes that are there or not, each for itself
