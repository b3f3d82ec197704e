"""The streaming softmax of margin heads, against the dense one."""

import math
from unittest import mock

import pytest
import torch
import torch.nn.functional as F

import hybridcls.functional.margins.margin_softmax as margin_softmax
from hybridcls.functional import angular_margin_on_target, cosine_logits, margin_cross_entropy, statistics_cross_entropy
from hybridcls.functional.margins.margin_softmax import dense_softmax_stats
from hybridcls.functional.margins.streamed_softmax import softmax_stats


def plain(embeddings, class_weights, labels, margin, scale, smoothing=0.0):
    """The loss over explicit angles, one row at a time, in float64."""
    embeddings, class_weights = embeddings.double(), class_weights.double()
    losses = []
    for embedding, label in zip(embeddings, labels.tolist(), strict=True):
        logits = [scale * float(embedding @ c / embedding.norm() / c.norm()) for c in class_weights]
        logits[label] = scale * (logits[label] / scale - margin)
        log_sum = math.log(sum(math.exp(v) for v in logits))
        target = [smoothing / len(logits) + (1 - smoothing) * (i == label) for i in range(len(logits))]
        losses.append(sum(t * (log_sum - v) for t, v in zip(target, logits, strict=True)))
    return sum(losses) / len(losses)


FORMS = [dict(softmax='dense'), dict(softmax='streamed'), dict(softmax='streamed', memory=1), dict()]


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_loss_and_prediction(smoothing, form):
    torch.manual_seed(0)
    embeddings, class_weights, labels = 5 * torch.randn(6, 4), torch.randn(3, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    loss, predicted = margin_cross_entropy(
        embeddings, class_weights, labels, lambda cosine, norm: cosine - 0.2, 16.0, smoothing, **form
    )
    assert loss.item() == pytest.approx(plain(embeddings, class_weights, labels, 0.2, 16.0, smoothing), rel=1e-5)
    assert predicted.tolist() == cosine_logits(embeddings, class_weights).argmax(1).tolist()


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('num_subcenters', [1, 2])
def test_of_equal_cosines_the_first_class_is_predicted(num_subcenters, form):
    """Whichever of the equals is the target class; the cosines are equal to the last bit."""
    class_weights = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    class_weights = class_weights.repeat_interleave(num_subcenters, 0)
    labels = torch.tensor([0, 1, 2, 3, 4])
    _, predicted = margin_cross_entropy(
        torch.tensor([[3.0, 0.0]]).expand(5, 2),
        class_weights,
        labels,
        lambda cosine, norm: cosine,
        num_subcenters=num_subcenters,
        **form,
    )
    assert predicted.tolist() == [1] * 5


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('keys', [dict(), dict(label_smoothing=0.1), dict(cosine_clip=0.4, label_smoothing=0.1)])
def test_gradients(form, keys):
    torch.manual_seed(0)
    embeddings = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    class_weights = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 4, 2, 2])
    assert torch.autograd.gradcheck(
        lambda e, c: margin_cross_entropy(
            e, c, labels, lambda cosine, norm: cosine * 0.9 - 0.1 * norm, 4.0, **keys, **form
        )[0],
        (embeddings, class_weights),
    )


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('keys', [dict(), dict(label_smoothing=0.1), dict(cosine_clip=0.4, label_smoothing=0.1)])
def test_a_bias_of_the_logits_and_weights_of_the_samples(form, keys):
    """Against torch's cross entropy of logits that are written out; gradients too."""
    torch.manual_seed(0)
    embeddings, class_weights = (torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (4, 5))
    labels, rows = torch.tensor([0, 4, 2, 2]), torch.arange(4)
    bias, weights = 40 * torch.randn(5, dtype=torch.float64), torch.rand(4, dtype=torch.float64)

    cosines = F.normalize(embeddings) @ F.normalize(class_weights).T
    clip = keys.get('cosine_clip', 0)
    logits = cosines.clamp(-1 + clip, 1 - clip)
    logits = 8 * logits.index_put((rows, labels), logits[rows, labels] - 0.2) + bias
    losses = F.cross_entropy(logits, labels, reduction='none', label_smoothing=keys.get('label_smoothing', 0))
    expected = torch.autograd.grad((losses * weights).sum() / 4, (embeddings, class_weights))

    loss, predicted = margin_cross_entropy(
        embeddings, class_weights, labels, lambda cosine, norm: cosine - 0.2, 8.0,
        logit_bias=bias, sample_weights=weights, **keys, **form,
    )  # fmt: skip
    torch.testing.assert_close(loss, (losses * weights).sum() / 4)
    torch.testing.assert_close(torch.autograd.grad(loss, (embeddings, class_weights)), expected)
    assert predicted.tolist() == cosines.argmax(1).tolist()  # without the bias


@pytest.mark.parametrize('memory', [1, None])
def test_a_bias_far_beyond_the_logits_neither_overflows_nor_underflows(memory):
    torch.manual_seed(0)
    embeddings, class_weights, labels = torch.randn(4, 3), torch.randn(6, 3), torch.tensor([0, 4, 2, 2])
    for sign in (1, -1):
        bias = sign * torch.tensor([0.0, 200.0, 300.0, 100.0, 250.0, 250.0])
        losses = [
            margin_cross_entropy(
                embeddings,
                class_weights,
                labels,
                lambda cosine, norm: cosine,
                logit_bias=bias,
                softmax=form,
                memory=memory,
            )[0]
            for form in ('dense', 'streamed')
        ]
        assert losses[0].isfinite()
        torch.testing.assert_close(*losses)


def trained(num_classes, width, noise):
    """Embeddings near their class weights, as they are late in training; norms far from 1."""
    torch.manual_seed(0)
    class_weights = 0.01 * torch.randn(num_classes, width)
    labels = torch.randint(num_classes, (32,))
    return 20 * (class_weights[labels] * 100 + noise * torch.randn(32, width)), class_weights, labels


@pytest.mark.parametrize('memory', [10_000, 10**7])
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
@pytest.mark.parametrize('noise', [0.3, 100.0])
def test_float32_equals_the_dense_formula(memory, smoothing, noise):
    """To 1e-5 of the largest entry, in value and in gradients; the dense formula in float64 is the measure."""
    *inputs, labels = trained(1000, 64, noise)
    outcomes = []
    forms = {torch.float64: dict(softmax='dense'), torch.float32: dict(softmax='streamed', memory=memory)}
    for dtype, form in forms.items():
        given = [tensor.to(dtype).requires_grad_() for tensor in inputs]
        loss, predicted = margin_cross_entropy(
            *given, labels, lambda cosine, norm: angular_margin_on_target(cosine, 0.5), 64.0, smoothing, **form
        )
        loss.backward()
        outcomes.append((loss.detach(), predicted, *(tensor.grad for tensor in given)))
    for exact, found in zip(*outcomes, strict=True):
        torch.testing.assert_close(found.to(exact.dtype), exact, rtol=1e-5, atol=1e-5 * exact.abs().max().item())


@pytest.mark.parametrize('form', [dict(softmax='streamed'), dict(softmax='streamed', memory=1)])
@pytest.mark.parametrize(('num', 'num_classes'), [(1, 1), (1, 5), (4, 1), (4, 5)])
@pytest.mark.parametrize('num_subcenters', [1, 3])
def test_small_batches_and_few_classes(form, num, num_classes, num_subcenters):
    torch.manual_seed(0)
    inputs = torch.randn(num, 3), torch.randn(num_classes * num_subcenters, 3)
    labels = torch.zeros(num, dtype=torch.int64)  # all of one class
    outcomes = []
    for keys in (dict(softmax='dense'), form):
        given = [tensor.clone().requires_grad_() for tensor in inputs]
        loss, predicted = margin_cross_entropy(
            *given, labels, lambda cosine, norm: cosine - 0.3, 16.0, 0.1, num_subcenters=num_subcenters, **keys
        )
        (-3 * loss).backward()
        outcomes.append((loss.detach(), predicted, *(tensor.grad for tensor in given)))
    torch.testing.assert_close(*outcomes)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_inputs_are_summed_in_float32(dtype):
    *inputs, labels = trained(300, 16, 0.3)
    outcomes = []
    for keys in (dict(softmax='dense'), dict(softmax='streamed', memory=10_000)):
        given = [tensor.to(dtype).requires_grad_() for tensor in inputs]
        loss, _ = margin_cross_entropy(*given, labels, lambda cosine, norm: cosine - 0.3, **keys)
        (2**10 * loss).backward()
        assert loss.dtype == torch.float32
        outcomes.append((loss.detach(), *(tensor.grad for tensor in given)))
    torch.testing.assert_close(outcomes[0][0], outcomes[1][0])
    for dense, streamed in zip(*outcomes, strict=True):  # gradients rounded once, at the end
        torch.testing.assert_close(streamed.float(), dense.float(), rtol=2 * torch.finfo(dtype).eps, atol=1e-5)


def test_which_form_is_chosen():
    def form_of(num, num_classes, **keys):
        with mock.patch.object(margin_softmax, 'softmax_stats', wraps=softmax_stats) as streamed:
            margin_cross_entropy(
                torch.ones(num, 2),
                torch.ones(num_classes, 2),
                torch.zeros(num, dtype=torch.int64),
                lambda cosine, norm: cosine,
                **keys,
            )
        return 'streamed' if streamed.called else 'dense'

    assert form_of(8, 10) == 'dense'
    assert form_of(8, 10, softmax='streamed') == 'streamed'
    assert form_of(62, 2**14) == 'dense'
    assert form_of(62, 2**14 + 1) == 'streamed'
    assert form_of(1, 70_000) == 'dense'
    assert form_of(64, 70_000) == 'streamed'
    assert form_of(64, 70_000, softmax='dense') == 'dense'
    with pytest.raises(ValueError, match=r"expected softmax to be one of .*, got 'stream'"):
        form_of(8, 10, softmax='stream')


def test_it_can_stand_in_a_compiled_function():
    *inputs, labels = trained(50, 8, 0.3)

    def loss_of(embeddings, class_weights):
        return margin_cross_entropy(
            2 * embeddings, class_weights, labels, lambda cosine, norm: cosine - 0.1, softmax='streamed'
        )[0]

    outcomes = []
    for function in (loss_of, torch.compile(loss_of, backend='aot_eager')):
        given = [tensor.clone().requires_grad_() for tensor in inputs]
        loss = function(*given)
        loss.backward()
        outcomes.append((loss.detach(), *(tensor.grad for tensor in given)))
    torch.testing.assert_close(*outcomes)


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('label', [-1, 3])
def test_labels_out_of_range(form, label):
    with pytest.raises(ValueError, match=rf'expected labels in \[0, 2\] for .* 3 classes, got labels from .*{label}'):
        margin_cross_entropy(
            torch.ones(2, 4), torch.ones(3, 4), torch.tensor([1, label]), lambda cosine, norm: cosine, **form
        )


def test_deterministic_algorithms_have_all_that_is_needed():
    *inputs, labels = trained(50, 8, 0.3)
    given = [tensor.requires_grad_() for tensor in inputs]
    torch.use_deterministic_algorithms(True)
    try:
        margin_cross_entropy(*given, labels, lambda cosine, norm: cosine, 16.0, 0.1, softmax='streamed', memory=1000)[
            0
        ].backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert given[1].grad.isfinite().all()


def test_smoothing_needs_the_sum():
    statistics = softmax_stats(torch.eye(2), torch.eye(2), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r'label_smoothing=0\.1 needs the sum .* with_sum=True'):
        statistics_cross_entropy(statistics, 2, lambda cosine: cosine, label_smoothing=0.1)


def test_margin_sees_the_cosines_and_the_norms():
    embeddings, seen = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), []

    def margin(cosine, norms):
        seen.extend([cosine, norms])
        return cosine

    margin_cross_entropy(embeddings, torch.eye(2), torch.tensor([0, 1]), margin)
    torch.testing.assert_close(seen[0], torch.tensor([0.6, 1.0]))
    torch.testing.assert_close(seen[1], torch.tensor([5.0, 2.0]))


@pytest.mark.parametrize('form', FORMS)
def test_cosine_clip_is_felt_by_all_classes(form):
    embeddings = torch.tensor([[1.0, 0.0]], requires_grad=True)
    seen = []
    margin_cross_entropy(
        embeddings,
        torch.tensor([[1.0, 0.0], [-1.0, 0.0]]),
        torch.tensor([0]),
        lambda cosine, norm: seen.append(cosine) or cosine,
        cosine_clip=1e-3,
        **form,
    )[0].backward()
    torch.testing.assert_close(seen[0], torch.tensor([0.999]))
    assert embeddings.grad.abs().sum() == 0


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_autocast_does_not_touch_the_cosines(dtype, form):
    torch.manual_seed(0)
    embeddings, class_weights, labels = torch.randn(4, 8), torch.randn(3, 8), torch.tensor([0, 1, 2, 0])
    expected = margin_cross_entropy(embeddings, class_weights, labels, lambda cosine, norm: cosine, **form)[0]
    with torch.autocast('cpu', dtype):
        loss, _ = margin_cross_entropy(embeddings, class_weights, labels, lambda cosine, norm: cosine, **form)
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)


@pytest.mark.parametrize('form', FORMS)
def test_one_class_costs_nothing(form):
    loss, predicted = margin_cross_entropy(
        torch.ones(2, 3), torch.ones(1, 3), torch.tensor([0, 0]), lambda cosine, norm: cosine - 0.5, **form
    )
    assert loss.item() == 0
    assert predicted.tolist() == [0, 0]


@pytest.mark.parametrize('clip', [None, 0.4])
@pytest.mark.parametrize('num_classes', [1, 6])
def test_dense_and_streamed_statistics_agree(clip, num_classes):
    torch.manual_seed(0)
    units = torch.nn.functional.normalize(torch.randn(5, 3, dtype=torch.float64), dim=1)
    class_weights = torch.nn.functional.normalize(torch.randn(num_classes, 3, dtype=torch.float64), dim=1)
    labels = torch.arange(5) % num_classes
    dense = dense_softmax_stats(units @ class_weights.t(), labels, 16.0, clip, with_sum=True)
    streamed = softmax_stats(units, class_weights, labels, 16.0, clip, with_sum=True)
    if num_classes > 1:  # of one class alone the two only agree that it is far below
        for name, value in dense._asdict().items():
            torch.testing.assert_close(value, getattr(streamed, name), msg=lambda text, name=name: f'{name}: {text}')
    assert (dense.log_sum_exp < -1e30).all() == (num_classes == 1)
    assert dense_softmax_stats(units @ class_weights.t(), labels).cosine_sum is None
