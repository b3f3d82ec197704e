"""Margin heads: losses, predictions, sub-centers, options."""

import math
from unittest import mock

import pytest
import torch
from mmpretrain.structures import DataSample
from torch import nn

from hybridcls.registry import MODELS, OPTIM_WRAPPERS


class HalfMargin(nn.Module):
    """A margin from outside: half the cosine, and nothing to log."""

    def forward(self, target_cosine, norms, labels):
        assert labels.tolist() == [0, 1]
        return target_cosine / 2


def build(**keys):
    torch.manual_seed(0)
    return MODELS.build(dict(type='MarginHead', num_classes=3, in_channels=5, **keys))


def samples(*labels):
    return [DataSample().set_gt_label(label) for label in labels]


def test_a_margin_of_ones_own():
    head = build(margin=dict(type=HalfMargin), scale=4.0)
    feats = torch.randn(2, 5)
    losses = head.loss((feats,), samples(0, 1))
    cosine = torch.nn.functional.cosine_similarity(feats[:, None], head.weight[None], dim=2)
    logits = 4 * cosine * torch.tensor([[0.5, 1, 1], [1, 0.5, 1]])
    torch.testing.assert_close(losses['loss'], nn.functional.cross_entropy(logits, torch.tensor([0, 1])))
    assert set(losses) == {'loss', 'accuracy_top-1'}
    torch.testing.assert_close(head(feats), 4 * cosine)  # no margin where there is no loss


def test_accuracy_is_that_of_the_prediction():
    head = build(margin=dict(type='ArcFace', margin=1.5))
    with torch.no_grad():
        head.weight.copy_(torch.eye(3, 5))
    feats = torch.tensor(
        [[1.0, 0.9, 0.0, 0.0, 0.0], [1.0, 0.9, 0.0, 0.0, 0.0]]
    )  # with the margin, both would be class 1
    assert head.loss((feats,), samples(0, 1))['accuracy_top-1'] == 50
    assert head.predict(feats)[0].pred_label.tolist() == [0]


def test_class_weights_start_small_and_init_weights_leaves_them():
    head = MODELS.build(dict(type='MarginHead', num_classes=300, in_channels=100))
    assert head.weight.shape == (300, 100)
    assert head.weight.std().item() == pytest.approx(0.01, rel=0.05)
    before = head.weight.detach().clone()
    head.init_weights()
    torch.testing.assert_close(head.weight, nn.Parameter(before), rtol=0, atol=0)


def test_norms_of_class_weights_do_not_matter():
    head, feats = build(), torch.randn(2, 5)
    before = head.loss((feats,), samples(0, 1))['loss']
    with torch.no_grad():
        head.weight.mul_(1e4)
    torch.testing.assert_close(head.loss((feats,), samples(0, 1))['loss'], before)


def test_half_precision_weights_predict_in_float32():
    head = build().half()
    assert head(torch.randn(2, 5, dtype=torch.float16)).dtype == torch.float32


@pytest.mark.parametrize('softmax', ['dense', 'streamed'])
@pytest.mark.parametrize('sign', [1.0, -1.0])
def test_embedding_on_a_class_weight(sign, softmax):
    head = build(softmax=softmax)
    feats = (sign * 7 * head.weight.detach()).requires_grad_()
    losses = head.loss((feats,), samples(0, 1, 2))
    losses['loss'].backward()
    assert losses['loss'].isfinite()
    assert feats.grad.isfinite().all()
    assert head.weight.grad.isfinite().all()


def test_margin_and_scale_can_be_set_while_training():
    head = build(margin=dict(type='ArcFace', margin=0.5))
    head.margin, head.scale = 0.0, 2.0
    assert head.margin_function.margin == head.margin == 0
    feats = torch.randn(2, 5)
    expected = nn.functional.cross_entropy(head(feats), torch.tensor([0, 1]))
    torch.testing.assert_close(head.loss((feats,), samples(0, 1))['loss'], expected)


@pytest.mark.parametrize(
    'keys',
    [
        dict(scale=0.0),
        dict(scale=math.inf),
        dict(cosine_clip=1.0),
        dict(label_smoothing=-1),
        dict(softmax='stream'),
        dict(softmax_memory=0),
    ],
)
def test_wrong_settings_fail_when_built(keys):
    (name,) = keys
    with pytest.raises(ValueError, match=f'MarginHead: expected {name} '):
        build(**keys)


@pytest.mark.parametrize('softmax', ['dense', 'streamed'])
def test_of_subcenters_the_nearest_counts_and_learns(softmax):
    head = build(num_subcenters=2, scale=4.0, softmax=softmax, margin=dict(type='CosFace', margin=0.2))
    assert head.weight.shape == (3, 2, 5)
    feats, labels = torch.randn(2, 5), [0, 1]
    cosine = nn.functional.cosine_similarity(feats[:, None, None], head.weight[None], dim=3)
    torch.testing.assert_close(head(feats), 4 * cosine.amax(2))
    logits = 4 * (cosine.amax(2) - 0.2 * torch.eye(2, 3))
    loss = head.loss((feats,), samples(*labels))['loss']
    torch.testing.assert_close(loss, nn.functional.cross_entropy(logits, torch.tensor(labels)))
    loss.backward()
    nearest = cosine.argmax(2)  # (images, classes)
    for label in range(3):
        for subcenter in range(2):
            moved = head.weight.grad[label, subcenter].abs().sum() > 0
            assert moved == (subcenter in nearest[:, label])


def test_sharded_classes_alone():
    feats = torch.randn(2, 5)
    expected, head = build(), build(shard_classes=True)
    torch.testing.assert_close(head.weight, expected.weight, rtol=0, atol=0)
    torch.testing.assert_close(head(feats), expected(feats))  # to test and to export
    head.load_state_dict(expected.state_dict())
    with pytest.raises(RuntimeError, match=r'MarginHead: shard_classes=True .* no process group.*dist_train.sh'):
        head.loss((feats,), samples(0, 1))
    torch.testing.assert_close(head.eval().loss((feats,), samples(0, 1)), expected.loss((feats,), samples(0, 1)))


def test_classes_are_sampled_while_training_and_not_after(tmp_path):
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/init', rank=0, world_size=1)
    try:
        keys = dict(type='ArcFaceHead', num_classes=100, in_channels=5)
        head = MODELS.build(dict(shard_classes=True, sample_rate=0.1, **keys))
        feats = torch.randn(2, 5)
        head.loss((feats,), samples(3, 50))['loss'].backward()
        moved = head.weight.grad.abs().sum(1) > 0
        assert moved.sum() == 10
        assert moved[[3, 50]].all()
        whole = MODELS.build(keys)
        whole.load_state_dict(head.state_dict())
        torch.testing.assert_close(head.eval().loss((feats,), samples(3, 50)), whole.loss((feats,), samples(3, 50)))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ('keys', 'message'),
    [
        (dict(sample_rate=0.1), 'sample_rate=0.1 draws among .* Add shard_classes=True'),
        (dict(sample_rate=0.0, shard_classes=True), 'expected sample_rate in .*, got 0.0'),
        (dict(update_drawn_only=True), 'update_drawn_only=True, and sample_rate=1 draws all classes'),
        (dict(num_subcenters=0), 'expected num_subcenters in .*, got 0'),
        (dict(softmax='dense', shard_classes=True), "softmax='dense' holds the logits of all classes"),
    ],
)
def test_wrong_ways_to_share_classes(keys, message):
    with pytest.raises(ValueError, match=f'MarginHead: {message}'):
        build(**keys)


def train(amp=None, **keys):
    """Weights after three updates of a layer and a head, by the composed wrapper."""
    head = build(scale=8.0, **keys)
    layer = nn.Linear(4, 5)
    model = nn.ModuleList([layer, head])
    wrapper = OPTIM_WRAPPERS.build(
        dict(type='ComposedOptimWrapper', amp=amp, optimizer=torch.optim.SGD(model.parameters(), lr=0.5))
    )
    images = torch.randn(6, 4)
    for _ in range(3):
        with wrapper.optim_context(model):
            feats = layer(images)
            loss = head.loss((feats,), samples(0, 1, 2, 0, 1, 2))['loss']
        assert loss.dtype == torch.float32
        wrapper.update_params(loss)
    return feats.dtype, dict(model.state_dict())


@pytest.mark.parametrize('amp', [None, 'bfloat16'])
@pytest.mark.parametrize('keys', [dict(), dict(label_smoothing=0.1), dict(cosine_clip=1e-3)])
def test_streamed_trains_as_dense_does(amp, keys):
    dtype, dense = train(amp, softmax='dense', **keys)
    assert dtype == (torch.bfloat16 if amp else torch.float32)
    _, streamed = train(amp, softmax='streamed', softmax_memory=1, **keys)
    tolerances = dict(rtol=0, atol=1e-2) if amp else {}  # gradients of bfloat16 embeddings are rounded to bfloat16
    torch.testing.assert_close(streamed, dense, **tolerances)


def test_what_a_loss_needs_follows_the_softmax():
    held = {}
    for softmax in ('dense', 'streamed'):
        head = MODELS.build(dict(type='MarginHead', num_classes=5000, in_channels=4, softmax=softmax))
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: saved.append(t.numel()) or t, lambda t: t):
            head.loss((torch.randn(20, 4, requires_grad=True),), samples(*range(20)))['loss'].backward()
        held[softmax] = max(saved)
    assert held['dense'] >= 20 * 5000
    assert held['streamed'] <= 4 * 5000


def test_bad_embeddings_are_named_and_left_to_the_guard():
    head, feats = build(), torch.randn(4, 5)  # two views of two images
    feats[3, 1] = math.nan
    data_samples = samples(0, 1)
    with mock.patch('hybridcls.models.heads.embedding_head.print_log') as log:
        assert head.loss((feats,), data_samples)['loss'].isnan()
        data_samples[1].set_metainfo(dict(img_path='cats/7.png'))
        head.loss((feats,), data_samples)
        head.loss((feats[:2],), data_samples)
    first, second = (call.args[0] for call in log.mock_calls)
    assert '1 of 4 embeddings is NaN or infinite, first that of row 3' in first
    assert 'first that of cats/7.png' in second


@MODELS.register_module()
class MarginOfAnotherForm(torch.nn.Module):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, target_cosine, norms, labels):
        return self.change(target_cosine - 0.1)


@pytest.mark.parametrize('softmax', ['dense', 'streamed'])
def test_what_a_margin_may_return(softmax):
    def head(change):
        torch.manual_seed(0)
        margin = dict(type='MarginOfAnotherForm', change=change)
        return MODELS.build(dict(type='MarginHead', num_classes=3, in_channels=4, margin=margin, softmax=softmax))

    feats, samples = (torch.randn(2, 4),), [DataSample().set_gt_label(label) for label in (0, 2)]
    half, plain = head(torch.Tensor.half), head(torch.Tensor.float)
    torch.testing.assert_close(
        half.loss(feats, samples)['loss'], plain.loss(feats, samples)['loss'], rtol=0.01, atol=0.01
    )
    for change, got in ((lambda x: x[:, None], r'shape \(2, 1\)'), (torch.Tensor.tolist, 'list')):
        with pytest.raises(
            ValueError, match=rf'expected target logits of shape \(2,\).*MarginOfAnotherForm, got {got}'
        ):
            head(change).loss(feats, samples)


@pytest.mark.parametrize('margin', [dict(margin=0.3), 0.3])
def test_a_margin_without_a_type(margin):
    with pytest.raises(TypeError, match=r"MarginHead: expected margin=dict\(type='ArcFace', ...\) with a type"):
        MODELS.build(dict(type='MarginHead', num_classes=3, in_channels=4, margin=margin))


def cosines_of(head, feats):
    return torch.nn.functional.cosine_similarity(feats[:, None], head.weight[None], dim=2)


@pytest.mark.parametrize('softmax', ['dense', 'streamed'])
@pytest.mark.parametrize('margin', ['ArcFace', 'CosFace', 'AdaFace'])
def test_classes_with_few_images_weigh_more(margin, softmax):
    """The loss of each sample, with its margin, times the weight of its class."""
    plain = build(margin=dict(type=margin))
    weighted = build(margin=dict(type=margin), softmax=softmax, class_weight='balanced')
    weighted.set_class_counts(torch.tensor([6, 2, 4]), 12)
    feats = 5 * torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    for head in (plain, weighted):
        head.margin_function.eval()
    each = [plain.loss((feats[row : row + 1],), samples(row))['loss'] for row in range(3)]
    expected = (each[0] * 12 / 18 + each[1] * 12 / 6 + each[2]) / 3
    torch.testing.assert_close(weighted.loss((feats,), samples(0, 1, 2))['loss'], expected)


@pytest.mark.parametrize('softmax', ['dense', 'streamed'])
def test_logit_adjustment_goes_with_a_margin(softmax):
    head = build(margin=dict(type='CosFace', margin=0.2), scale=4.0, softmax=softmax, logit_adjustment=1.0)
    head.set_class_counts(torch.tensor([6, 2, 4]), 12)
    feats, labels = torch.randn(2, 5), torch.tensor([0, 1])
    logits = 4 * (cosines_of(head, feats) - 0.2 * nn.functional.one_hot(labels, 3))
    expected = nn.functional.cross_entropy(logits + torch.tensor([0.5, 1 / 6, 1 / 3]).log(), labels)
    torch.testing.assert_close(head.loss((feats,), samples(0, 1))['loss'], expected)
    torch.testing.assert_close(head.eval()(feats), 4 * cosines_of(head, feats))


def test_post_hoc_adjustment_of_scaled_cosines():
    head = build(scale=4.0, logit_adjustment=dict(post_hoc=True))
    head.set_class_counts(torch.tensor([6, 2, 4]), 12)
    feats = torch.randn(2, 5)
    expected = 4 * cosines_of(head, feats) - torch.tensor([0.5, 1 / 6, 1 / 3]).log()
    torch.testing.assert_close(head.eval()(feats), expected)
    torch.testing.assert_close(head.predict(feats)[0].pred_score, expected[0].softmax(0).detach())


def test_fit_sets_prototypes_and_the_statistics_of_norms():
    """The direction of the mean of normalized embeddings; a class without an image keeps its weight."""
    head = MODELS.build(dict(type='AdaFaceHead', num_classes=3, in_channels=2, num_subcenters=2))
    before = head.weight.detach().clone()
    embeddings = torch.tensor([[3.0, 4.0], [0.0, 2.0], [0.0, -5.0]])
    head.fit(embeddings, torch.tensor([0, 0, 2]))
    expected = torch.tensor([0.6, 1.8]) / math.hypot(0.6, 1.8)
    torch.testing.assert_close(head.weight[0, 0].detach(), expected)
    torch.testing.assert_close(head.weight[2, 0].detach(), torch.tensor([0.0, -1.0]))
    assert torch.equal(head.weight[1], before[1])
    assert torch.equal(head.weight[:, 1], before[:, 1])
    assert head.margin_function.norm_mean.item() == pytest.approx(4.0)  # of 5, 2 and 5
    assert head.margin_function.norm_std.item() == pytest.approx(3**0.5)


@pytest.mark.parametrize('softmax', ['dense', 'streamed'])
def test_precision_of_products(softmax):
    """On a CPU TF32 is float32 to the bit; bfloat16 is near; scores are float32 in all."""
    feats = torch.randn(4, 5)
    found = {}
    for precision in ('float32', 'tf32', 'bfloat16'):
        head = build(softmax=softmax, head_precision=precision, scale=16.0)
        loss = head.loss((feats,), samples(0, 1, 2, 0))['loss']
        loss.backward()
        found[precision] = loss.detach(), head.weight.grad, head(feats).detach()
    torch.testing.assert_close(found['tf32'], found['float32'], rtol=0, atol=0)
    torch.testing.assert_close(found['bfloat16'][2], found['float32'][2], rtol=0, atol=0)
    for own, other in zip(found['bfloat16'][:2], found['float32'][:2], strict=True):
        assert 0 < float((own - other).norm() / other.norm()) < 2e-2
    assert build().head_precision == 'tf32'


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"MarginHead: .*head_precision.*'half'"):
        build(head_precision='half')
