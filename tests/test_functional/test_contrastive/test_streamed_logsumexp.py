import itertools

import pytest
import torch
import torch.nn.functional as F

from hybridcls.functional.contrastive import supervised_contrast
from hybridcls.functional.contrastive.streamed_logsumexp import streamed_logsumexp


def rows(count, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, 4, dtype=torch.float64, generator=generator), dim=1).to(dtype)


def by_matrix(anchors, temperature, others, classes, other_classes):
    """All similarities at once, in float64 where the input is; rows without a positive give minus infinity."""
    contrasts, all_classes = torch.cat([anchors, *others]), torch.cat([classes, *other_classes])
    own = torch.eye(len(anchors), len(contrasts), dtype=torch.bool)
    similarity = (anchors @ contrasts.t() / temperature).masked_fill(own, -torch.inf)
    return similarity.logsumexp(1), similarity.masked_fill(classes.unsqueeze(1) != all_classes, -torch.inf).logsumexp(1)


# Blocks of 3 and 5 leave a rest of 11 rows; 100 is one block. 0.01 goes the way of low temperatures.
@pytest.mark.parametrize(
    ('temperature', 'block', 'sizes'), list(itertools.product([0.3, 0.01], [3, 5, 100], [(), (7,), (1, 0, 4)]))
)
def test_blocks_give_the_matrix(temperature, block, sizes):
    anchors = rows(11).requires_grad_()
    others = [rows(size, seed=size + 1).requires_grad_() for size in sizes]
    classes = torch.tensor([0, 1, 0, 2, 1, 1, 3, 4, 4, 5, 0])  # 2, 3 and 5 occur once
    other_classes = [torch.arange(size) % 7 for size in sizes]
    tau = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    found = streamed_logsumexp(anchors, tau, others, classes, other_classes, block)
    expected = by_matrix(anchors, tau, others, classes, other_classes)
    has_positive = expected[1].isfinite()
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1][has_positive], expected[1][has_positive])
    assert (found[1][~has_positive] == torch.finfo(torch.float64).min).all()

    weights = torch.linspace(-1, 2, 11, dtype=torch.float64)
    inputs = [anchors, tau, *others]
    losses = [
        (weights * (log_sums - 2 * weights * log_sums_of_class))[has_positive].sum()
        for log_sums, log_sums_of_class in (found, expected)
    ]
    for own, reference in zip(*(torch.autograd.grad(loss, inputs) for loss in losses), strict=True):
        torch.testing.assert_close(own, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('temperature', [0.3, 0.015])
@pytest.mark.parametrize('by_class', [True, False])
def test_gradcheck(temperature, by_class):
    classes, other_classes = (torch.tensor([0, 1, 0, 1, 1]), torch.tensor([0, 1])) if by_class else (None, None)

    def both(anchors, tau, other):
        found = streamed_logsumexp(
            F.normalize(anchors, dim=1),
            tau,
            [F.normalize(other, dim=1)],
            classes,
            [other_classes] if by_class else (),
            block=2,
        )
        return found if by_class else found[0]

    tau = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    inputs = rows(5).requires_grad_(), tau, rows(2, seed=1)
    assert torch.autograd.gradcheck(both, inputs)
    assert torch.autograd.gradcheck(both, (*inputs[:2], inputs[2].requires_grad_()))


@pytest.mark.parametrize('temperature', [0.5, 0.07, 0.02, 0.0199, 0.001])
@pytest.mark.parametrize('spread', [0.0, 1e-3, 1.0])
def test_float32_at_all_temperatures(temperature, spread):
    # spread 0 is a collapsed batch, all cosines 1; and one opposite row
    anchors = F.normalize(torch.ones(9, 4) + spread * rows(9, torch.float32), dim=1)
    anchors[3] = -anchors[3]
    found, expected = [], []
    for dtype, results in ((torch.float32, found), (torch.float64, expected)):
        z = anchors.to(dtype).requires_grad_()
        log_sums = streamed_logsumexp(z, temperature, block=4)[0]
        results += [log_sums.double().detach(), torch.autograd.grad(log_sums.mean(), z)[0].double()]
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=3e-6 / temperature**2)
    if spread:
        z = anchors.double()
        torch.testing.assert_close(
            expected[0], by_matrix(z, temperature, [], torch.zeros(9), [])[0], rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize('temperature', [0.3, 0.01])
def test_nothing_to_add_up(temperature):
    classes = torch.zeros(1, dtype=torch.int64)
    anchor = rows(1).requires_grad_()
    for log_sums in streamed_logsumexp(anchor, temperature, classes=classes):
        assert log_sums.item() == torch.finfo(torch.float64).min
        assert torch.autograd.grad(log_sums.sum() * 0, anchor, retain_graph=True)[0].eq(0).all()
    assert streamed_logsumexp(rows(0), temperature)[0].shape == (0,)


def test_no_matrix_is_held():
    saved, made = [], []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            made.extend(
                tensor.numel()
                for tensor in (out if isinstance(out, (tuple, list)) else [out])
                if isinstance(tensor, torch.Tensor)
            )
            return out

    embeddings = torch.randn(1500, 2, 8, requires_grad=True)
    labels = torch.arange(1500) % 90
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t), Watch():
        supervised_contrast(embeddings, labels).backward()
    assert max(made) <= 384 * 384  # of 9,000,000 similarities
    assert sum(saved) < 10 * embeddings.numel()


def test_the_backward_pass_stays_in_float32_under_autocast():
    z = rows(700, torch.float32).requires_grad_()
    (expected,) = torch.autograd.grad(streamed_logsumexp(z, 0.1)[0].mean(), z)
    with torch.autocast('cpu', torch.bfloat16):
        (found,) = torch.autograd.grad(streamed_logsumexp(z, 0.1)[0].mean(), z)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
