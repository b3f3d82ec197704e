"""What every head does, whichever it is."""

import copy

import pytest
import torch
from mmpretrain.structures import DataSample

from hybridcls.registry import MODELS

HEADS = {
    'SupConHead': dict(projection=dict(hid_channels=6, out_channels=4)),
    'LinearHead': dict(num_classes=3),
    'MarginHead': dict(num_classes=3),
    'ArcFaceHead': dict(num_classes=3),
    'AdaFaceHead': dict(num_classes=3),
    'EvidentialHead': dict(num_classes=3),
    'CosFaceHead': dict(num_classes=3),
    'MultiLabelHead': dict(num_classes=3),
}
CLASSIFIERS = [name for name in HEADS if name not in ('SupConHead', 'MultiLabelHead')]


def build(name, **keys):
    torch.manual_seed(0)
    return MODELS.build(dict(type=name, in_channels=5, **HEADS[name], **keys))


def samples(*labels):
    return [DataSample().set_gt_label(label) for label in labels]


def embeddings(rows, dtype=torch.float32, seed=0):
    return (10 * torch.randn(rows, 5, generator=torch.Generator().manual_seed(seed))).to(dtype).requires_grad_()


@pytest.fixture(params=HEADS)
def name(request):
    return request.param


@pytest.mark.parametrize('views', [1, 2, 3])
def test_loss_trains_everything(name, views):
    head, feats = build(name), embeddings(4 * views)
    losses = head.loss((feats,), samples(0, 1, 1, 0))
    assert [key for key in losses if 'loss' in key] == ['loss']
    assert losses['loss'].dtype == torch.float32
    assert losses['loss'].shape == ()
    losses['loss'].backward()
    for tensor in [feats, *head.parameters()]:
        assert tensor.grad.isfinite().all()
        assert tensor.grad.abs().sum() > 0


def test_a_bare_tensor_is_as_good_as_the_tuple(name):
    head, feats = build(name).eval(), embeddings(4)
    torch.testing.assert_close(head(feats), head((feats,)), rtol=0, atol=0)
    torch.testing.assert_close(head.loss(feats, samples(0, 1, 1, 0)), head.loss((feats,), samples(0, 1, 1, 0)))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_finite_under_autocast(name, dtype):
    head, feats = build(name), embeddings(4, dtype)
    with torch.autocast('cpu', dtype):
        losses = head.loss((feats,), samples(0, 1, 1, 0))
        predictions = head.predict((feats,), samples(0, 1, 1, 0))
    losses['loss'].backward()
    assert losses['loss'].dtype == torch.float32
    assert all(tensor.grad.isfinite().all() for tensor in [feats, *head.parameters()])
    assert all(parameter.dtype == torch.float32 for parameter in head.parameters())  # nothing was cast in place
    assert predictions[0].embedding.dtype == torch.float32


def test_batch_of_one_and_zero_embeddings(name):
    for feats in [embeddings(1), torch.zeros(1, 5, requires_grad=True)]:
        head = build(name)
        losses = head.loss((feats,), samples(0))
        losses['loss'].backward()
        assert losses['loss'].isfinite()
        assert feats.grad.isfinite().all()
        assert all(value.isfinite().all() for value in head.state_dict().values())


@pytest.mark.parametrize('head_name', CLASSIFIERS)
def test_predictions_are_the_softmax_of_forward(head_name):
    head, feats = build(head_name).eval(), embeddings(2)
    given = samples(0, 1)
    out = head.predict((feats,), given)
    assert out[0] is given[0]
    scores = torch.stack([sample.pred_score for sample in out])
    torch.testing.assert_close(scores, head(feats).softmax(1).detach())
    assert [sample.pred_label.tolist() for sample in out] == scores.argmax(1, keepdim=True).tolist()
    torch.testing.assert_close(torch.stack([sample.embedding for sample in out]), feats.detach())
    assert len(head.predict((feats,))) == 2


@pytest.mark.parametrize('head_name', CLASSIFIERS)
def test_views_are_more_samples_of_the_same_label(head_name):
    feats, head = embeddings(6), build(head_name)
    as_views = copy.deepcopy(head).loss((feats,), samples(0, 1, 2))
    as_samples = copy.deepcopy(head).loss((feats,), samples(0, 1, 2, 0, 1, 2))
    torch.testing.assert_close(as_views, as_samples)


@pytest.mark.parametrize('head_name', CLASSIFIERS)
def test_one_class(head_name):
    head = MODELS.build(dict(type=head_name, num_classes=1, in_channels=5))
    losses = head.loss((embeddings(2),), samples(0, 0))
    assert losses['loss'].isfinite()
    assert losses['accuracy_top-1'] == 100
    assert head.predict(embeddings(2))[0].pred_score.tolist() == [1.0]


@pytest.mark.parametrize('head_name', CLASSIFIERS)
def test_labels_out_of_range(head_name):
    with pytest.raises(ValueError, match=rf'{head_name}: expected labels in \[0, 2\] .*, got 3'):
        build(head_name).loss((embeddings(2),), samples(0, 3))


@pytest.mark.parametrize('head_name', ['SupConHead', 'ArcFaceHead', 'AdaFaceHead'])
def test_soft_labels_name_mixup(head_name):
    mixed = [DataSample().set_gt_score([0.5, 0.5, 0.0]) for _ in range(2)]
    with pytest.raises(ValueError, match=f'{head_name}: expected one class for each image, got soft labels .*mixup'):
        build(head_name).loss((embeddings(2),), mixed)


def test_state_is_saved(name):
    head = build(name)
    head.loss((embeddings(4),), samples(0, 1, 1, 0))
    other = MODELS.build(dict(type=name, in_channels=5, **HEADS[name]))
    other.load_state_dict(head.state_dict())
    feats = embeddings(3)
    torch.testing.assert_close(other.eval()(feats), head.eval()(feats), rtol=0, atol=0)
    torch.testing.assert_close(other.loss(feats, samples(0, 1, 1)), head.loss(feats, samples(0, 1, 1)), rtol=0, atol=0)


def test_missing_in_channels_says_who_fills_it_in(name):
    with pytest.raises(ValueError, match=f'{name}: in_channels is missing. HybridClassifier fills it in'):
        MODELS.build(dict(type=name, **HEADS[name]))


def test_embeddings_of_another_shape(name):
    with pytest.raises(ValueError, match=rf'{name}: expected an embedding of shape \(N, 5\), got \(2, 5, 3, 3\)'):
        build(name).predict((torch.ones(2, 5, 3, 3),))
    with pytest.raises(ValueError, match=f'{name}: expected an embedding of shape'):
        build(name)((torch.ones(2, 6),))


def test_rows_that_do_not_fit_the_samples(name):
    with pytest.raises(ValueError, match=f'{name}: expected a multiple of 2 embeddings for 2 samples, got 5'):
        build(name).loss((embeddings(5),), samples(0, 1))


def test_works_in_mmpretrains_classifier(name):
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=4, stem_channels=4),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type=f'hybridcls.{name}', in_channels=32, **HEADS[name]),
        )
    )
    model.init_weights()
    losses = model(torch.randn(4, 3, 8, 8), samples(0, 1, 0, 1), mode='loss')
    losses['loss'].backward()
    assert model(torch.randn(2, 3, 8, 8), samples(0, 1), mode='predict')[0].embedding.shape == (32,)
    assert model(torch.randn(2, 3, 8, 8)).shape[0] == 2


@pytest.mark.parametrize('head_name', ['SupConHead', 'LinearHead', 'ArcFaceHead', 'AdaFaceHead', 'EvidentialHead'])
def test_an_embedding_that_is_not_finite_is_named_and_the_loss_is_not_finite(head_name, monkeypatch):
    said = []
    monkeypatch.setattr('hybridcls.models.heads.embedding_head.print_log', lambda text, *_, **__: said.append(text))
    head, feats, given = build(head_name), embeddings(4).detach(), samples(0, 1, 2, 0)
    feats[2, 1] = torch.nan
    given[2].set_metainfo(dict(img_path='cat/7.jpg'))
    assert not head.loss((feats,), given)['loss'].isfinite()
    assert len(said) == 1
    assert f'{head_name}: 1 of 4 embeddings is NaN or infinite, first that of cat/7.jpg' in said[0]
