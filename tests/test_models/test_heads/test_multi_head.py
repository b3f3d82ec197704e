import copy

import pytest
import torch
from mmpretrain.structures import DataSample

from hybridcls.engine.config import load_config
from hybridcls.registry import MODELS

HEADS = dict(
    contrast=dict(type='SupConHead', projection=dict(hid_channels=6, out_channels=4)),
    face=dict(type='ArcFaceHead', scale=8.0),
    evidence=dict(type='EvidentialHead'),
)
LENET = dict(
    backbone=dict(type='LeNet5', num_classes=-1),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='MultiHead', num_classes=3, in_channels=120, heads=HEADS, weights=dict(evidence=0.5)),
)


def build(**keys):
    torch.manual_seed(0)
    keys = {'heads': copy.deepcopy(HEADS), 'num_classes': 3, **keys}
    return MODELS.build(dict(type='MultiHead', in_channels=5, **keys))


def samples(*labels):
    return [DataSample().set_gt_label(label) for label in labels]


def embeddings(rows):
    return torch.randn(rows, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()


def test_losses_are_those_of_each_head_times_its_weight():
    head, feats = build(weights=dict(face=2.0, contrast=0.0)), embeddings(6)
    losses = head.loss((feats,), samples(0, 1, 1))
    assert list(losses) == [
        'contrast.loss',
        'face.loss',
        'face.accuracy_top-1',
        'evidence.loss',
        'evidence.kl',
        'evidence.kl_weight',
        'evidence.accuracy_top-1',
    ]
    for name, weight in dict(contrast=0.0, face=2.0, evidence=1.0).items():
        alone = head.heads[name].loss((feats,), samples(0, 1, 1))
        torch.testing.assert_close(losses[f'{name}.loss'], weight * alone['loss'])
        for key in set(alone) - {'loss'}:  # no weight for what is no loss
            torch.testing.assert_close(losses[f'{name}.{key}'], alone[key])


def test_the_classifier_trains_on_the_sum_of_the_losses():
    model = MODELS.build(dict(type='HybridClassifier', **copy.deepcopy(LENET)))
    model.init_weights()
    assert model.head.heads['evidence'].fc.weight.std().item() == pytest.approx(0.01, rel=0.2)  # its own initialisation
    losses = model(torch.randn(4, 1, 32, 32), samples(0, 1, 1, 2), mode='loss')
    total, logged = model.parse_losses(losses)
    torch.testing.assert_close(total, losses['contrast.loss'] + losses['face.loss'] + losses['evidence.loss'])
    assert {'loss', 'face.loss', 'evidence.accuracy_top-1'} <= set(logged)
    total.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert {name.split('.')[2] for name in model.state_dict() if name.startswith('head.')} == set(HEADS)


def test_validation_names_the_losses_alike():
    model = MODELS.build(dict(type='HybridClassifier', **copy.deepcopy(LENET))).eval()
    batch = dict(inputs=torch.randint(0, 255, (4, 1, 32, 32)).float(), data_samples=samples(0, 1, 1, 2))
    predictions = model.val_step(batch)
    assert {'contrast.loss', 'face.loss', 'evidence.loss'} <= set(predictions[0].val_losses)
    assert predictions[0].embedding.shape == (120,)


def test_predictions_say_whose_they_are():
    head, feats = build(main='evidence').eval(), embeddings(4)
    given = samples(0, 1)  # two views each
    out = head.predict((feats,), given)
    assert out[0] is given[0]
    for name in HEADS:
        alone = head.heads[name].predict((feats,), samples(0, 1))
        for sample, expected in zip(out, alone, strict=True):
            for key, value in expected.items():
                if key != 'gt_label':
                    torch.testing.assert_close(sample.heads.get(name).get(key), value)
                    if name == 'evidence':
                        torch.testing.assert_close(sample.get(key), value)
    assert out[0].gt_label.tolist() == [0]
    assert out[0].to_dict()['heads']['face']['pred_score'].shape == (3,)
    torch.testing.assert_close(out[1].embedding, feats.detach()[[1, 3]].mean(0))
    torch.testing.assert_close(head((feats,)), head.heads['evidence']((feats,)))
    assert head.to('cpu').predict(feats)[0].to('cpu').heads.evidence.vacuity.dim() == 0


def test_the_main_head_is_the_first_with_classes():
    assert build().main == 'face'
    assert build().num_classes == 3
    only_contrast = build(heads=dict(contrast=HEADS['contrast']))
    assert only_contrast.main == 'contrast'
    assert only_contrast.num_classes is None
    assert 'pred_score' not in only_contrast.predict(embeddings(2))[0]


def test_widths_and_classes_are_given_once():
    head = build()
    assert head.heads['face'].num_classes == head.heads['evidence'].num_classes == 3
    assert head.heads['contrast'].in_channels == 5
    own = build(heads=dict(face=dict(type='ArcFaceHead', num_classes=7), evidence=dict(type='EvidentialHead')))
    assert [sub.num_classes for sub in own.heads.values()] == [7, 3]


def test_num_classes_of_a_config_reaches_the_heads(tmp_path):
    (tmp_path / 'multi.py').write_text(
        "num_classes = 4\nmodel = dict(type='HybridClassifier', backbone=dict(type='LeNet5'), head=dict("
        "type='MultiHead', heads=dict(face=dict(type='ArcFaceHead'), evidence=dict(type='EvidentialHead'))))\n"
    )
    cfg = load_config(tmp_path / 'multi.py')
    assert cfg.model.head.num_classes == 4
    head = MODELS.build(dict(**cfg.model.head, in_channels=5))
    assert [sub.num_classes for sub in head.heads.values()] == [4, 4]


def test_a_child_config_drops_a_head():
    head = build(heads={**HEADS, 'face': None}, weights=dict(face=2.0, evidence=3.0))
    assert list(head.heads) == ['contrast', 'evidence']
    assert head.weights == dict(contrast=1.0, evidence=3.0)


def test_heads_of_mmpretrain_take_part():
    head = build(heads=dict(plain=dict(type='LinearClsHead'), evidence=dict(type='EvidentialHead')))
    losses = head.loss((embeddings(3),), samples(0, 1, 2))
    assert {'plain.loss', 'evidence.loss'} <= set(losses)
    sample = head.predict((embeddings(3),), samples(0, 1, 2))[0]
    torch.testing.assert_close(sample.pred_score, sample.heads.plain.pred_score)
    assert sample.embedding.shape == (5,)


def test_heads_of_mmpretrain_see_each_view_as_a_sample():
    head, feats = build(heads=dict(plain=dict(type='LinearClsHead'), own=dict(type='LinearHead'))), embeddings(6)
    head.heads['own'].fc.load_state_dict(head.heads['plain'].fc.state_dict())
    losses = head.loss((feats,), samples(0, 1, 2))
    torch.testing.assert_close(losses['plain.loss'], losses['own.loss'])
    out = head.predict((feats,), samples(0, 1, 2))
    assert len(out) == 3
    expected = head.heads['plain'].fc(feats.reshape(2, 3, 5).mean(0)).softmax(1)
    torch.testing.assert_close(torch.stack([sample.heads.plain.pred_score for sample in out]), expected.detach())


def test_mixed_labels_need_heads_that_all_take_them():
    mixed = [DataSample().set_gt_score([0.5, 0.5, 0.0]) for _ in range(2)]
    both = build(heads=dict(plain=dict(type='LinearHead'), evidence=dict(type='EvidentialHead')))
    assert {'plain.loss', 'evidence.loss'} <= set(both.loss(embeddings(2), mixed))
    with pytest.raises(ValueError, match='ArcFaceHead: expected one class for each image, got soft labels'):
        build(heads=dict(face=dict(type='ArcFaceHead'))).loss(embeddings(2), mixed)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_finite_under_autocast(dtype):
    head, feats = build(), embeddings(4)
    with torch.autocast('cpu', dtype):
        losses = head.loss((feats.to(dtype),), samples(0, 1, 1, 0))
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


@pytest.mark.parametrize(
    ('keys', 'error', 'says'),
    [
        (dict(heads={}), ValueError, 'heads has no head'),
        (dict(heads=dict(face=None)), ValueError, 'heads has no head'),
        (dict(heads={'lossy': dict(type='ArcFaceHead')}), ValueError, "'lossy' of a head contains 'loss'"),
        (dict(heads={'a.b': dict(type='ArcFaceHead')}), ValueError, "'a.b' of a head is no identifier"),
        (dict(heads={'keys': dict(type='ArcFaceHead')}), ValueError, "'keys' of a head is taken"),
        (dict(weights=dict(face=-1.0)), ValueError, r"expected weights\['face'\] in \[0, inf\), got -1.0"),
        (dict(weights=dict(fase=1.0)), TypeError, "unknown key 'fase'. Did you mean 'face'"),
        (dict(main='faces'), ValueError, "expected main to be one of .*, got 'faces'.* Did you mean 'face'"),
    ],
)
def test_mistakes_are_answered(keys, error, says):
    with pytest.raises(error, match=says):
        build(**keys)


def test_heads_of_several_labels_and_weights_of_their_own():
    heads = dict(tags=dict(type='MultiLabelHead'), focus=dict(type='MultiLabelHead', loss=dict(type='AsymmetricLoss')))
    head = build(heads=heads)
    assert head.multi_label
    assert not build().multi_label
    theirs = dict(type='mmpretrain.MultiLabelLinearClsHead', in_channels=5)
    assert build(heads=dict(tags=theirs)).multi_label
    several = [DataSample().set_gt_label(labels) for labels in ([0, 2], [])]
    assert [name for name in head.loss((embeddings(2),), several) if 'loss' in name] == ['tags.loss', 'focus.loss']
    sample = head.predict((embeddings(1),))[0]
    assert sample.thresholds is sample.heads.tags.thresholds
    balanced = build(heads=dict(one=dict(type='LinearHead', class_weight='balanced'), two=dict(type='EvidentialHead')))
    assert [name for name, part in balanced.named_modules() if getattr(part, 'needs_class_counts', False)] == [
        'heads.one'
    ]
