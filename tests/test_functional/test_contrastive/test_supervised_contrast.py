import math

import pytest
import torch
import torch.nn.functional as F
from fidelity_checks import assert_faithful

from hybridcls.functional.contrastive.supervised_contrast import supervised_contrast

LABELS = [0, 1, 0, 2, 1, 0]  # class 2 occurs once


def waves(*shape):
    """Numbers without a pattern, the same on every machine."""
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    return (torch.sin(1.7 * i) + 0.5 * torch.cos(0.37 * i * i)).reshape(shape)


def by_loops(embeddings, labels, temperature, mode='all', form='out', anchor_mean='with_positives'):
    """Equations 2 and 3 of the paper, one anchor and one positive at a time."""
    num_images, num_views = embeddings.shape[:2]
    z = F.normalize(embeddings.double(), dim=-1)
    rows = [(i, v) for v in range(num_views) for i in range(num_images)]
    losses = []
    for anchor in rows:
        if mode == 'one' and anchor[1] != 0:
            continue
        others = [row for row in rows if row != anchor]
        positives = [row for row in others if labels[row[0]] == labels[anchor[0]]]
        if not positives:
            losses += [0.0] if anchor_mean == 'all' else []
            continue
        similarity = {row: math.exp(float(z[anchor] @ z[row]) / temperature) for row in others}
        shares = [similarity[row] / sum(similarity.values()) for row in positives]
        if form == 'out':
            losses.append(-sum(math.log(share) for share in shares) / len(shares))
        else:
            losses.append(-math.log(sum(shares) / len(shares)))
    return sum(losses) / max(1, len(losses))


@pytest.fixture(params=[True, False], ids=['streamed', 'dense'])
def streamed(request):
    return request.param


@pytest.mark.parametrize(
    'case',
    ['SupConLoss', 'SupConLoss, streamed', 'SupConLoss without labels', 'SupConLoss without labels, streamed',
     'SupConLoss with a mask', 'SupConLoss, form in'],
)  # fmt: skip
def test_official_numbers(case):
    assert_faithful(case)


@pytest.mark.parametrize('anchor_mean', ['with_positives', 'all'])
@pytest.mark.parametrize('form', ['out', 'in'])
@pytest.mark.parametrize('mode', ['all', 'one'])
@pytest.mark.parametrize('views', [1, 3])
def test_a_mask_of_labels_is_the_labels(views, mode, form, anchor_mean):
    embeddings, labels = waves(6, views, 5), torch.tensor(LABELS)
    switches = dict(contrast_mode=mode, form=form, anchor_mean=anchor_mean)
    out = supervised_contrast(embeddings, mask=labels[:, None] == labels, **switches)
    torch.testing.assert_close(out, supervised_contrast(embeddings, labels, **switches))
    twice = supervised_contrast(embeddings, mask=2 * (labels[:, None] == labels).double(), **switches)
    torch.testing.assert_close(twice, out)  # only shares matter


def test_masks_that_do_not_fit():
    embeddings, labels = waves(6, 2, 5), torch.tensor(LABELS)
    for more in (dict(labels=labels), dict(streamed=True), dict(queue_embeddings=waves(3, 5))):
        with pytest.raises(ValueError, match='expected a mask alone'):
            supervised_contrast(embeddings, mask=torch.eye(6), **more)
    for mask in (torch.eye(5), -torch.eye(6)):
        with pytest.raises(ValueError, match=r'expected a mask of shape \(6, 6\) without negative entries'):
            supervised_contrast(embeddings, mask=mask)


@pytest.mark.parametrize('anchor_mean', ['with_positives', 'all'])
@pytest.mark.parametrize('form', ['out', 'in'])
@pytest.mark.parametrize('mode', ['all', 'one'])
@pytest.mark.parametrize('views', [1, 2, 3])
def test_formula(views, mode, form, anchor_mean, streamed):
    embeddings = 7 * waves(6, views, 5)
    switches = dict(contrast_mode=mode, form=form, anchor_mean=anchor_mean, streamed=streamed)
    out = supervised_contrast(embeddings.float(), torch.tensor(LABELS), 0.2, **switches)
    expected = by_loops(embeddings, LABELS, 0.2, mode, form, anchor_mean)
    torch.testing.assert_close(out.item(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('form', ['out', 'in'])
@pytest.mark.parametrize('images', [6, 100])  # 100 in three views are more than a small batch
def test_float64_keeps_its_digits(images, form, streamed):
    embeddings, labels = 7 * waves(images, 3, 5), [(7 * i) % 5 for i in range(images)]
    out = supervised_contrast(embeddings, torch.tensor(labels), 0.2, form=form, streamed=streamed)
    torch.testing.assert_close(out.item(), by_loops(embeddings, labels, 0.2, form=form), rtol=1e-12, atol=0)


@pytest.mark.parametrize('temperature', [0.1, 0.01])
@pytest.mark.parametrize('images', [1, 20])
def test_a_loss_of_zero_is_no_difference_of_large_totals(images, temperature, streamed):
    """Two views alone have nothing to be told from; and 1e-30 is the share of other classes at right angles."""
    views = waves(images, 2, 5).float() if images == 1 else 10 * torch.eye(images).unsqueeze(1).repeat(1, 2, 1)
    labels = torch.arange(images)
    out = supervised_contrast(views, labels, temperature, streamed=streamed)
    expected = 0.0 if images == 1 else math.log1p(38 * math.exp(-1 / temperature))
    torch.testing.assert_close(out.item(), expected, rtol=1e-5, atol=1e-12)


def test_a_large_batch_streams_as_exactly_as_one_matrix():
    """The loss of 300 pairs of views that agree: 598 shares of exp(-10) beside 1, in float32."""
    views = torch.eye(300).unsqueeze(1).repeat(1, 2, 1)
    for streamed in (True, False):
        out = supervised_contrast(views, torch.arange(300), 0.1, streamed=streamed)
        torch.testing.assert_close(out.item(), math.log1p(598 * math.exp(-10)), rtol=0, atol=1e-6)


@pytest.mark.parametrize('form', ['out', 'in'])
@pytest.mark.parametrize('views', [1, 2])
def test_gradient_is_the_derivative(views, form, streamed):
    embeddings = waves(6, views, 4).requires_grad_()
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor(LABELS)
    assert torch.autograd.gradcheck(
        lambda e, t: supervised_contrast(e, labels, t, form=form, streamed=streamed), (embeddings, temperature)
    )


def test_without_labels_it_is_simclr():
    first, second = waves(2, 4, 6).float().unbind()
    z = F.normalize(torch.cat([first, second]), dim=1)
    logits = (z @ z.t() / 0.1).fill_diagonal_(-math.inf)
    nt_xent = F.cross_entropy(logits, torch.arange(8).roll(4))  # the other view is the class
    torch.testing.assert_close(supervised_contrast(torch.stack([first, second], 1)), nt_xent)


@pytest.mark.parametrize('form', ['out', 'in'])
@pytest.mark.parametrize('labels', [[0, 1, 2], [0, 0, 1], [5, 5, 5], [-3, 2**40, -3]])
def test_any_labels_are_finite(labels, form, streamed):
    embeddings = waves(3, 1, 4).float().requires_grad_()
    out = supervised_contrast(embeddings, torch.tensor(labels), form=form, streamed=streamed)
    out.backward()
    assert out.isfinite()
    assert embeddings.grad.isfinite().all()
    if labels == [0, 1, 2]:
        assert out.item() == 0
        assert embeddings.grad.abs().sum() == 0


@pytest.mark.parametrize('form', ['out', 'in'])
@pytest.mark.parametrize('shape', [(1, 1, 4), (1, 2, 4), (0, 2, 4)])
def test_tiny_batches(shape, form, streamed):
    embeddings = torch.ones(shape, requires_grad=True)
    out = supervised_contrast(embeddings, torch.zeros(shape[0], dtype=torch.int64), form=form, streamed=streamed)
    out.backward()
    assert out.item() == 0
    assert embeddings.grad.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('temperature', [0.001, 0.07])
def test_half_precision_and_low_temperature(temperature, dtype, streamed):
    embeddings = waves(6, 2, 5).to(dtype).requires_grad_()
    labels = torch.tensor(LABELS)
    with torch.autocast('cpu', torch.bfloat16):
        out = supervised_contrast(embeddings, labels, temperature, streamed=streamed)
    out.backward()
    assert out.dtype == torch.float32
    assert embeddings.grad.isfinite().all()
    torch.testing.assert_close(out.item(), by_loops_stable(embeddings.detach(), labels, temperature), rtol=1e-4, atol=0)


def by_loops_stable(embeddings, labels, temperature):
    z = F.normalize(embeddings.double(), dim=-1).transpose(0, 1).flatten(0, 1)
    labels = labels.repeat(embeddings.shape[1])
    same = (labels[:, None] == labels).fill_diagonal_(False)
    log_share = (z @ z.t() / temperature).fill_diagonal_(-math.inf).log_softmax(1)
    per_anchor = -log_share.masked_fill(~same, 0).sum(1)[same.any(1)] / same.sum(1)[same.any(1)]
    return per_anchor.mean().item()


def test_a_zero_embedding_is_finite(streamed):
    embeddings = waves(4, 2, 3).float()
    embeddings[0] = 0
    embeddings.requires_grad_()
    supervised_contrast(embeddings, torch.tensor([0, 0, 1, 1]), streamed=streamed).backward()
    assert embeddings.grad.isfinite().all()


@pytest.mark.parametrize('labelled', [True, False])
@pytest.mark.parametrize('mode', ['all', 'one'])
@pytest.mark.parametrize('views', [1, 2])
def test_shares_of_a_larger_contrast_set_add_up(views, mode, labelled, streamed):
    embeddings = waves(6, views, 5).requires_grad_()
    labels = torch.tensor(LABELS) if labelled else None
    whole = supervised_contrast(embeddings, labels, contrast_mode=mode)
    shares = [
        supervised_contrast(
            embeddings[start:stop],
            None if labels is None else labels[start:stop],
            contrast_mode=mode,
            contrast_embeddings=embeddings,
            contrast_labels=labels,
            first_anchor=start,
            streamed=streamed,
        )
        for start, stop in [(0, 1), (1, 4), (4, 6)]
    ]
    torch.testing.assert_close(sum(shares), whole)
    torch.testing.assert_close(torch.autograd.grad(sum(shares), embeddings), torch.autograd.grad(whole, embeddings))


@pytest.mark.parametrize('labelled', [True, False])
@pytest.mark.parametrize('form', ['out', 'in'])
@pytest.mark.parametrize('mode', ['all', 'one'])
@pytest.mark.parametrize('views', [1, 2])
def test_a_queue_is_contrasted_with_and_is_no_anchor(views, mode, form, labelled, streamed):
    embeddings, queue = waves(6, views, 5).requires_grad_(), 3 * waves(7, 5).flip(0)
    queue_labels = [2, 9, 0, 0, 8, 8, 1]  # class 2, single in the batch, finds a positive here
    labels = torch.tensor(LABELS) if labelled else None
    out = supervised_contrast(
        embeddings,
        labels,
        0.3,
        contrast_mode=mode,
        form=form,
        streamed=streamed,
        queue_embeddings=queue,
        queue_labels=torch.tensor(queue_labels) if labelled else None,
    )

    z, past = F.normalize(embeddings, dim=-1), F.normalize(queue, dim=-1)
    rows = [(i, v) for i in range(6) for v in range(views)]
    own_labels = LABELS if labelled else range(6)
    losses = []
    for i, v in rows:
        if mode == 'one' and v > 0:
            continue
        others = [(z[j, w], own_labels[j]) for j, w in rows if (j, w) != (i, v)]
        others += [(past[j], label if labelled else -1) for j, label in enumerate(queue_labels)]
        similar = torch.stack([(z[i, v] @ other / 0.3).exp() for other, _ in others])
        is_positive = torch.tensor([label == own_labels[i] for _, label in others])
        if is_positive.any():
            shares = similar[is_positive] / similar.sum()
            losses.append(-(shares.log().mean() if form == 'out' else shares.mean().log()))
    expected = sum(losses) / max(1, len(losses))
    torch.testing.assert_close(out, torch.as_tensor(expected, dtype=torch.float64))
    if losses:
        torch.testing.assert_close(torch.autograd.grad(out, embeddings), torch.autograd.grad(expected, embeddings))


def test_many_rows_are_streamed_and_few_are_not():
    few, many = (waves(count, 2, 4).requires_grad_() for count in (96, 97))
    labels = torch.arange(97) % 10
    for embeddings, streamed in ((few, False), (many, True)):
        out = supervised_contrast(embeddings, labels[: len(embeddings)])
        same = supervised_contrast(embeddings, labels[: len(embeddings)], streamed=streamed)
        torch.testing.assert_close(out, same, rtol=0, atol=0)
        (first,) = torch.autograd.grad(out, embeddings, create_graph=True)
        if streamed:
            with pytest.raises(RuntimeError, match='streamed=False'):
                torch.autograd.grad(first.sum(), embeddings)
        else:
            assert torch.autograd.grad(first.square().sum(), embeddings)[0].abs().sum() > 0


def test_wrong_input_is_named():
    labels = torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r'expected embeddings of shape \(B, V, D\)'):
        supervised_contrast(torch.ones(2, 4), labels)
    with pytest.raises(ValueError, match='expected one label for each of 3 images'):
        supervised_contrast(torch.ones(3, 1, 4), labels)
    with pytest.raises(TypeError, match='labels of an integer dtype'):
        supervised_contrast(torch.ones(2, 1, 4), labels.float())
    with pytest.raises(TypeError, match='labels of an integer dtype'):
        supervised_contrast(torch.ones(2, 1, 4), labels.bool())
    with pytest.raises(TypeError, match=r'tensor of integers, .* got list'):
        supervised_contrast(torch.ones(2, 1, 4), [0, 1])
    for temperature in (-1, torch.tensor(-1)):
        with pytest.raises(ValueError, match=r'expected temperature in .* got -1'):
            supervised_contrast(torch.ones(2, 1, 4), labels, temperature)
    with pytest.raises(ValueError, match='expected one temperature'):
        supervised_contrast(torch.ones(2, 1, 4), labels, torch.ones(2))
    with pytest.raises(ValueError, match=r'expected queue_embeddings of shape \(M, 4\)'):
        supervised_contrast(torch.ones(2, 1, 4), labels, queue_embeddings=torch.ones(2, 3), queue_labels=labels)
    with pytest.raises(ValueError, match='labels and queue_labels belong together'):
        supervised_contrast(torch.ones(2, 1, 4), labels, queue_embeddings=torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"contrast_mode to be one of .* got 'any'"):
        supervised_contrast(torch.ones(2, 1, 4), labels, contrast_mode='any')
    with pytest.raises(ValueError, match='not a part'):
        supervised_contrast(
            torch.ones(2, 1, 4), labels, contrast_embeddings=torch.ones(2, 1, 4), contrast_labels=labels, first_anchor=1
        )
    with pytest.raises(ValueError, match='belong together'):
        supervised_contrast(torch.ones(2, 1, 4), labels, contrast_embeddings=torch.ones(2, 1, 4))


@pytest.mark.parametrize('form', ['out', 'in'])
@pytest.mark.parametrize('streamed', [True, False])
def test_precision_of_products(streamed, form):
    """The streamed and the dense form round the same products; TF32 is float32 on a CPU."""
    torch.manual_seed(0)
    embeddings, labels = torch.randn(120, 2, 16), torch.randint(9, (120,))
    found = {}
    for precision in ('float32', 'tf32', 'bfloat16'):
        leaf = embeddings.clone().requires_grad_()
        loss = supervised_contrast(leaf, labels, 0.1, form=form, streamed=streamed, precision=precision)
        loss.backward()
        found[precision] = loss.detach(), leaf.grad
    for own, rounded, other in zip(found['tf32'], found['bfloat16'], found['float32'], strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=0)
        assert 1e-6 < float((rounded - other).norm() / other.norm()) < 1e-2
    with pytest.raises(ValueError, match=r"supervised_contrast: .*precision.*'half'"):
        supervised_contrast(embeddings, labels, precision='half')
