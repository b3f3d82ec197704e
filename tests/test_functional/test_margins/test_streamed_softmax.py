import math
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hybridcls.functional import margin_cross_entropy, merge_softmax_stats
from hybridcls.functional.l2_normalize import inverse_norms, l2_normalize
from hybridcls.functional.margins.streamed_softmax import softmax_stats

# One class a block; blocks of two or three, with a rest; everything at once.
MEMORY = [1, 300, 10**6]


def batch(num=5, num_classes=7, width=4, num_subcenters=1, dtype=torch.float64):
    torch.manual_seed(0)
    units = l2_normalize(torch.randn(num, width, dtype=dtype))[0]
    class_weights = 3 * torch.randn(num_classes * num_subcenters, width, dtype=dtype)
    return units, class_weights, torch.randint(num_classes, (num,))


def plain(units, class_weights, labels, scale, clip=1.0, num_subcenters=1):
    """One cosine at a time, in the floats of Python."""
    rows = []
    for unit, label in zip(units.double(), labels.tolist(), strict=True):
        cosines = [float(unit @ c / c.norm()) for c in class_weights.double()]
        cosines = [max(cosines[i : i + num_subcenters]) for i in range(0, len(cosines), num_subcenters)]
        clipped = [min(max(cosine, -clip), clip) for cosine in cosines]
        others = [i for i in range(len(cosines)) if i != label]
        best = max(others, key=lambda i: cosines[i])
        rows.append(
            (
                cosines[label] if 0 <= label < len(cosines) else 0.0,
                math.log(sum(math.exp(scale * clipped[i]) for i in others)),
                sum(clipped),
                cosines[best],
                best,
            )
        )
    return [torch.tensor(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize('memory', MEMORY)
@pytest.mark.parametrize(('clip', 'num_subcenters'), [(None, 1), (0.3, 1), (None, 3), (0.3, 3)])
def test_statistics(memory, clip, num_subcenters):
    units, class_weights, labels = batch(num_subcenters=num_subcenters)
    labels[0] = 40  # of a class that is not in this set
    found = softmax_stats(units, class_weights, labels, 20.0, clip, True, num_subcenters, memory)
    expected = plain(units, class_weights, labels, 20.0, 1 if clip is None else 1 - clip, num_subcenters)
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other.to(own.dtype))
    assert softmax_stats(units, class_weights, labels, memory=memory).cosine_sum is None


@pytest.mark.parametrize('memory', MEMORY)
@pytest.mark.parametrize(('clip', 'num_subcenters'), [(None, 1), (0.3, 1), (None, 3), (0.3, 3)])
def test_gradients(memory, clip, num_subcenters):
    units, class_weights, labels = batch(4, 5, 3, num_subcenters)
    labels[0] = -1

    def numbers(embeddings, class_weights):
        found = softmax_stats(
            l2_normalize(embeddings)[0], class_weights, labels, 4.0, clip, True, num_subcenters, memory
        )
        return found.target_cosine, found.log_sum_exp, found.cosine_sum

    # gradcheck pulls at one output at a time, up and down: incoming gradients of 0 and of either sign.
    assert torch.autograd.gradcheck(numbers, (2 * units.requires_grad_(), class_weights.requires_grad_()))


@pytest.mark.parametrize('frozen', ['units', 'class_weights'])
def test_frozen_inputs_cost_no_gradient(frozen):
    units, class_weights, labels = batch()
    trained = dict(units=units, class_weights=class_weights)
    trained.pop(frozen)
    wanted = []
    for both in (True, False):
        units.grad = class_weights.grad = None
        units.requires_grad_(both or frozen != 'units')
        class_weights.requires_grad_(both or frozen != 'class_weights')
        softmax_stats(units, class_weights, labels, with_sum=True).log_sum_exp.sum().backward()
        wanted.append(next(iter(trained.values())).grad)
    torch.testing.assert_close(*wanted, rtol=0, atol=0)
    assert dict(units=units, class_weights=class_weights)[frozen].grad is None


@pytest.mark.parametrize('sizes', [[3, 4], [0, 7], [1, 1, 5], [7]])
def test_parts_merge_into_the_whole(sizes):
    units, class_weights, labels = batch()
    units.requires_grad_()
    whole_weights = class_weights.clone().requires_grad_()
    whole = softmax_stats(units, whole_weights, labels, 20.0, None, True)
    factors = torch.randn(3, len(units), dtype=units.dtype)
    sum((f * s).sum() for f, s in zip(factors, whole[:3], strict=True)).backward()
    expected, units.grad = units.grad, None

    parts = [part.clone().requires_grad_() for part in class_weights.split(sizes)]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    merged = merge_softmax_stats(
        [
            softmax_stats(units, part, labels - start, 20.0, None, True)
            for part, start in zip(parts, starts, strict=True)
        ],
        starts,
    )
    torch.testing.assert_close(merged, whole)
    sum((f * s).sum() for f, s in zip(factors, merged[:3], strict=True)).backward()
    torch.testing.assert_close(units.grad, expected)
    torch.testing.assert_close(torch.cat([part.grad for part in parts]), whole_weights.grad)


def test_the_first_of_equals_is_the_best():
    units, class_weights = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [2.0, 0.0], [3.0, 0.0], [-1.0, 0.0]])
    for memory in (1, 10**6):
        assert softmax_stats(units, class_weights, torch.tensor([0]), memory=memory).best_class.tolist() == [1]
        assert softmax_stats(units, class_weights, torch.tensor([1]), memory=memory).best_class.tolist() == [2]
    parts = [softmax_stats(units, part, torch.tensor([9])) for part in class_weights.split(2)]
    assert merge_softmax_stats(parts, [0, 2]).best_class.tolist() == [1]


def test_no_other_class():
    units, class_weights, labels = batch(num_classes=1)
    units.requires_grad_()
    class_weights.requires_grad_()
    found = softmax_stats(units, class_weights, labels, with_sum=True)
    assert (found.log_sum_exp < -1e30).all()
    assert found.log_sum_exp.isfinite().all()
    assert (found.best_cosine < -1).all()
    (found.log_sum_exp.exp() + found.target_cosine + found.cosine_sum).sum().backward()
    cosine = torch.nn.functional.cosine_similarity(units, class_weights)
    expected = torch.autograd.grad(2 * (cosine * units.detach().norm(dim=1)).sum(), class_weights)[0]
    torch.testing.assert_close(class_weights.grad, expected)


def test_no_class_and_no_embedding():
    units, class_weights, labels = batch()
    found = softmax_stats(units.requires_grad_(), class_weights[:0].requires_grad_(), labels, with_sum=True)
    sum(part.sum() for part in found[:3]).backward()
    assert units.grad.abs().sum() == 0
    assert found.target_cosine.tolist() == [0.0] * 5
    assert softmax_stats(units[:0], class_weights, labels[:0]).log_sum_exp.shape == (0,)


@pytest.mark.parametrize('shift', [-0.9, 0.9])
def test_far_below_or_above_the_largest(shift):
    """Sums that would underflow or overflow if logits were not measured from the largest of the others."""
    units = torch.tensor([[1.0, 0.0]])
    class_weights = torch.tensor([[1.0, 0.0], [shift, math.sqrt(1 - shift**2)], [shift, -math.sqrt(1 - shift**2)]])
    for memory in (1, 10**6):
        found = softmax_stats(units, class_weights, torch.tensor([0]), scale=300.0, memory=memory)
        torch.testing.assert_close(found.log_sum_exp, torch.tensor([300 * shift + math.log(2)]))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_class_weights(dtype):
    units, class_weights, labels = batch(dtype=torch.float32)
    half = class_weights.to(dtype).requires_grad_()
    full = half.detach().float().requires_grad_()
    for given in (half, full):
        softmax_stats(units, given, labels, 20.0, memory=300).log_sum_exp.sum().backward()
    assert half.grad.dtype == dtype
    torch.testing.assert_close(half.grad, full.grad.to(dtype), rtol=0, atol=0)


def test_autocast_does_not_touch_it():
    units, class_weights, labels = batch(dtype=torch.float32)
    class_weights.requires_grad_()
    grads = []
    for enabled in (False, True):
        class_weights.grad = None
        with torch.autocast('cpu', torch.bfloat16, enabled):
            softmax_stats(units, class_weights, labels).log_sum_exp.sum().backward()  # backward in it, too
        grads.append(class_weights.grad)
    torch.testing.assert_close(*grads, rtol=0, atol=0)


def test_class_weights_without_direction():
    units, class_weights, labels = batch()
    class_weights[3] = 0
    class_weights.requires_grad_()
    found = softmax_stats(units, class_weights, labels, with_sum=True)
    (found.log_sum_exp + found.cosine_sum).sum().backward()
    assert class_weights.grad.isfinite().all()
    assert class_weights.grad[3].abs().sum() == 0
    assert inverse_norms(class_weights.detach())[3] == 0


def test_a_nan_stays_with_its_row():
    units, class_weights, labels = batch(dtype=torch.float32)
    units[2] = math.nan
    log_sum = softmax_stats(units, class_weights, labels, memory=300).log_sum_exp
    assert log_sum.isnan().tolist() == [False, False, True, False, False]


class Watch(TorchDispatchMode):
    """Keeps all memory that operations return, by its address, so that no address comes twice."""

    def __init__(self):
        super().__init__()
        self.storages = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.storages[storage.data_ptr()] = storage
        return out


def sizes_beyond_the_gradients(softmax, num_classes, **settings):
    """Bytes of each piece of memory that a training step takes, but for class weights and gradients."""
    embeddings, labels = torch.randn(64, 8, requires_grad=True), torch.randint(num_classes, (64,))
    class_weights = torch.randn(num_classes * settings.get('num_subcenters', 1), 8, requires_grad=True)
    with Watch() as watch:
        margin_cross_entropy(
            embeddings,
            class_weights,
            labels,
            lambda cosine, norm: cosine - 0.1,
            softmax=softmax,
            memory=2**16,
            **settings,
        )[0].backward()
    for tensor in (class_weights, class_weights.grad, embeddings.grad):
        watch.storages.pop(tensor.untyped_storage().data_ptr(), None)
    return [storage.nbytes() for storage in watch.storages.values()], len(class_weights)


@pytest.mark.parametrize(
    'settings',
    [dict(), dict(label_smoothing=0.1), dict(cosine_clip=1e-3, label_smoothing=0.1), dict(num_subcenters=2)],
    ids=['plain', 'smoothing', 'clip', 'subcenters'],
)
def test_neither_logits_nor_a_second_matrix_of_weights_is_ever_held(settings):
    num_classes = 20_000
    sizes, num_class_weights = sizes_beyond_the_gradients('streamed', num_classes, **settings)
    # One number a class weight and the blocks may be held; N x C logits are 64 numbers a class, C x D another 8.
    assert max(sizes) <= max(2**16, 4 * num_class_weights)
    assert sum(size >= 4 * num_class_weights for size in sizes) == 1
    sizes, _ = sizes_beyond_the_gradients('dense', num_classes, **settings)
    assert max(sizes) >= 4 * 64 * num_classes  # the watch sees what it is there for


def test_the_blocks_keep_to_their_memory():
    units, class_weights, labels = batch(64, 1000, 8, dtype=torch.float32)
    with mock.patch('torch.mm', wraps=torch.mm) as products:
        softmax_stats(units, class_weights, labels, memory=2**15)
    assert len(products.mock_calls) == math.ceil(1000 / (2**15 // (2 * 4 * 64)))


@pytest.mark.parametrize('memory', MEMORY)
@pytest.mark.parametrize(('clip', 'num_subcenters'), [(None, 1), (0.3, 3)])
def test_chosen_rows_are_a_set_of_their_own(memory, clip, num_subcenters):
    units, class_weights, labels = batch(5, 9, 4, num_subcenters)
    classes = torch.tensor([6, 0, 8, 5])
    rows = (classes.unsqueeze(1) * num_subcenters + torch.arange(num_subcenters)).flatten()
    labels %= 4
    everything = []
    for chosen in (rows, None):
        u, c = units.clone().requires_grad_(), class_weights.clone().requires_grad_()
        found = softmax_stats(
            u, c if chosen is not None else c[rows], labels, 9.0, clip, True, num_subcenters, memory, chosen
        )
        (found.target_cosine.sum() + found.log_sum_exp.square().sum() - found.cosine_sum.sum()).backward()
        everything.append((*found, u.grad, c.grad))
    for own, other in zip(*everything, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-12)
    assert everything[0][-1][num_subcenters : 2 * num_subcenters].count_nonzero() == 0


def test_chosen_rows_of_half_precision():
    units, class_weights, labels = batch(5, 9, 4, dtype=torch.float32)
    half = class_weights.bfloat16().requires_grad_()
    rows = torch.tensor([6, 0, 8])
    softmax_stats(units, half, labels % 3, 9.0, memory=300, chosen=rows).log_sum_exp.sum().backward()
    full = half.detach().float().requires_grad_()
    softmax_stats(units, full[rows], labels % 3, 9.0).log_sum_exp.sum().backward()
    assert half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(half.grad, full.grad.bfloat16())


@pytest.mark.parametrize(
    ('keys', 'words'),
    [
        (dict(memory=0), 'memory in .* got 0'),
        (dict(num_subcenters=2), 'num_subcenters=2 weights for each class, got 7 weights'),
    ],
)
def test_wrong_settings(keys, words):
    with pytest.raises(ValueError, match=words):
        softmax_stats(*batch(), **keys)


@pytest.mark.parametrize(('rows', 'width', 'num_labels'), [(5, 4, 4), (5, 3, 5), (5, 4, 1)])
def test_shapes_that_do_not_fit(rows, width, num_labels):
    _, class_weights, _ = batch()
    with pytest.raises(ValueError, match=r'expected embeddings \(N, D\), class weights'):
        softmax_stats(torch.ones(rows, width), class_weights, torch.zeros(num_labels, dtype=torch.int64))


@pytest.mark.parametrize(('clip', 'num_subcenters', 'chosen'), [(None, 1, False), (0.3, 2, False), (None, 1, True)])
def test_bfloat16_rounds_products_alone(clip, num_subcenters, chosen):
    """Operands that bfloat16 holds exactly: what is left is the rounded gradient of the logits, 8 bits of it."""
    units, class_weights, labels = batch(num_subcenters=num_subcenters, dtype=torch.float32)
    rows = torch.arange(6) if chosen else None
    results = []
    for precision in ('bfloat16', 'float32'):
        leaves = [tensor.bfloat16().float().requires_grad_() for tensor in (units, class_weights)]
        found = softmax_stats(
            *leaves, labels.clamp(max=5), 20.0, clip, True, num_subcenters, 300, rows, precision=precision
        )
        sum(part.sum() for part in found[:3]).backward()
        results.append([*found, *(leaf.grad for leaf in leaves)])
    for own, other in zip(results[0][:5], results[1][:5], strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)
    for own, other in zip(results[0][5:], results[1][5:], strict=True):
        assert 1e-5 < float((own - other).norm() / other.norm()) < 1e-2


def test_the_target_cosine_is_not_rounded():
    units, class_weights, labels = batch(dtype=torch.float32)
    exact = softmax_stats(units, class_weights, labels)
    found = softmax_stats(units, class_weights, labels, precision='bfloat16')
    torch.testing.assert_close(found.target_cosine, exact.target_cosine)
    assert (found.log_sum_exp - exact.log_sum_exp).abs().max() > 1e-3


def test_an_unknown_precision_is_refused():
    units, class_weights, labels = batch()
    with pytest.raises(ValueError, match=r"softmax_stats: .*precision.*'fp16'"):
        softmax_stats(units, class_weights, labels, precision='fp16')
