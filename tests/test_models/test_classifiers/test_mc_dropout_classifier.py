import pytest
import scipy.stats
import torch
from mmpretrain.structures import DataSample
from torch import nn

from hybridcls.registry import MODELS

PARTS = dict(
    backbone=dict(type='LeNet5', num_classes=-1),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearHead', num_classes=3, in_channels=120),
)


def build(kind='MCDropoutClassifier', **keys):
    torch.manual_seed(0)
    model = MODELS.build(dict(type=kind, **{**PARTS, **keys}))
    for parameter in model.parameters():  # LeNet's outputs are tiny
        parameter.data *= 3
    return model.eval()


def images(count=4):
    return torch.rand(count, 1, 32, 32, generator=torch.Generator().manual_seed(5))


def samples(*labels):
    return [DataSample().set_gt_label(label) for label in labels]


class DropInside(nn.Module):
    """A backbone with dropout and batch statistics of its own."""

    out_channels = 120

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(1024, 120), nn.BatchNorm1d(120), nn.Dropout(0.5))
        self.calls = 0

    def forward(self, inputs):
        self.calls += 1
        return (self.layers(inputs),)


def test_the_draws_are_dropout_of_the_embedding():
    model = build(dropout=0.5, samples=6, seed=3)
    predicted = model.predict(images(), samples(0, 1, 2, 0))
    embedding = model.extract_feat(images())[-1]
    torch.manual_seed(3)
    scores = torch.stack([model.head(nn.functional.dropout(embedding, 0.5)).softmax(1) for _ in range(6)]).detach()
    for row, sample in enumerate(predicted):
        torch.testing.assert_close(sample.pred_score, scores[:, row].mean(0))
        assert sample.pred_label.item() == scores[:, row].mean(0).argmax()
        assert sample.total.item() == pytest.approx(scipy.stats.entropy(scores[:, row].mean(0)), rel=1e-5)
        assert sample.aleatoric.item() == pytest.approx(scipy.stats.entropy(scores[:, row], axis=1).mean(), rel=1e-5)
        assert sample.epistemic.item() == pytest.approx((sample.total - sample.aleatoric).item(), abs=1e-6)
        assert sample.epistemic > 0
        torch.testing.assert_close(sample.embedding, embedding[row].detach())  # not dropped


def test_the_same_seed_gives_the_same_numbers_and_disturbs_no_others():
    model = build(dropout=0.5)
    torch.manual_seed(7)
    expected_next = torch.rand(1)
    torch.manual_seed(7)
    first = model.predict(images())
    assert torch.rand(1) == expected_next
    for one, two in zip(first, model.predict(images()), strict=True):
        assert torch.equal(one.pred_score, two.pred_score)
    model.seed = 1
    assert not torch.equal(first[0].pred_score, model.predict(images())[0].pred_score)


def test_dropout_inside_of_the_backbone_is_drawn_and_nothing_else_trains():
    model = build(backbone=DropInside(), neck=None, samples=5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    calls = model.backbone.calls
    predicted = model.predict(images())
    assert model.backbone.calls == calls + 6
    assert predicted[0].epistemic > 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())


def test_a_backbone_without_dropout_runs_once():
    model = build(dropout=0.3)
    calls = []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    model.predict(images())
    assert len(calls) == 1


def test_it_has_the_weights_of_the_plain_classifier_and_trains_like_it():
    plain, drawn = build('HybridClassifier'), build(dropout=0.5)
    drawn.load_state_dict(plain.state_dict())
    torch.testing.assert_close(plain(images()), drawn(images()))
    losses = [model.loss(images(), samples(0, 1, 2, 0))['loss'] for model in (plain, drawn)]
    torch.testing.assert_close(*losses)
    drawn.train()
    assert not torch.equal(drawn.loss(images(), samples(0, 1, 2, 0))['loss'], losses[0])


def test_validation_losses_are_those_without_dropout():
    model = build(dropout=0.5)
    batch = dict(inputs=255 * images(), data_samples=samples(0, 1, 2, 0))
    predicted = model.val_step(batch)
    expected = model.loss(images(), samples(0, 1, 2, 0))['loss']
    torch.testing.assert_close(predicted[0].val_losses['loss'], expected.detach())
    assert predicted[0].epistemic > 0


def test_draws_of_an_evidential_head_keep_its_own_uncertainty():
    head = dict(type='EvidentialHead', num_classes=3, in_channels=120)
    model = build(dropout=0.5, samples=4, head=head)
    sample = model.predict(images())[0]
    alone = build('HybridClassifier', head=head).predict(images())[0]
    assert 0 < sample.vacuity <= 1
    torch.testing.assert_close(sample.aleatoric + sample.epistemic, sample.total)
    assert sample.epistemic > 0.5 * alone.epistemic


def test_stochastic_depth_is_drawn_when_asked_for():
    class DropPath(nn.Module):
        drop_prob = 0.5

        def forward(self, x):
            return x * (torch.rand(()) < 0.5) if self.training else x

    backbone = DropInside()
    backbone.layers[3] = DropPath()
    assert build(backbone=backbone, neck=None, drop_path=True).predict(images())[0].epistemic > 0
    with pytest.raises(ValueError, match='no layer of the model drops anything'):
        build(backbone=backbone, neck=None)


def test_mistakes_are_answered():
    with pytest.raises(ValueError, match=r'no layer of the model drops anything.*dropout=0\.2'):
        build()
    for keys in (dict(samples=0), dict(dropout=1.0), dict(seed=-1)):
        with pytest.raises(ValueError, match=f'MCDropoutClassifier: expected {next(iter(keys))} '):
            build(**{'dropout': 0.5, **keys})
    with pytest.raises(ValueError, match='MCDropoutClassifier: the head predicts no scores'):
        build(dropout=0.5, head=dict(type='SupConHead', in_channels=120)).predict(images())
