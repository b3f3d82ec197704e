import math
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hybridcls.functional import margin_cross_entropy, merge_class_statistics
from hybridcls.functional.l2_normalize import inverse_lengths, unit_rows
from hybridcls.functional.margins import softmax_stats as class_statistics

# One class a block; blocks of two or three, with a rest; everything at once.
MEMORY = [1, 300, 10**6]


def batch(num=5, num_classes=7, width=4, sub_centres=1, dtype=torch.float64):
    torch.manual_seed(0)
    units = unit_rows(torch.randn(num, width, dtype=dtype))[0]
    centres = 3 * torch.randn(num_classes * sub_centres, width, dtype=dtype)
    return units, centres, torch.randint(num_classes, (num,))


def plain(units, centres, labels, scale, clip=1.0, sub_centres=1):
    """One cosine at a time, in the floats of Python."""
    rows = []
    for unit, label in zip(units.double(), labels.tolist(), strict=True):
        cosines = [float(unit @ c / c.norm()) for c in centres.double()]
        cosines = [max(cosines[i : i + sub_centres]) for i in range(0, len(cosines), sub_centres)]
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
@pytest.mark.parametrize(('clip', 'sub_centres'), [(None, 1), (0.3, 1), (None, 3), (0.3, 3)])
def test_statistics(memory, clip, sub_centres):
    units, centres, labels = batch(sub_centres=sub_centres)
    labels[0] = 40  # of a class that is not in this set
    found = class_statistics(units, centres, labels, 20.0, clip, True, sub_centres, memory)
    expected = plain(units, centres, labels, 20.0, 1 if clip is None else 1 - clip, sub_centres)
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other.to(own.dtype))
    assert class_statistics(units, centres, labels, memory=memory).cosine_sum is None


@pytest.mark.parametrize('memory', MEMORY)
@pytest.mark.parametrize(('clip', 'sub_centres'), [(None, 1), (0.3, 1), (None, 3), (0.3, 3)])
def test_gradients(memory, clip, sub_centres):
    units, centres, labels = batch(4, 5, 3, sub_centres)
    labels[0] = -1

    def numbers(embeddings, centres):
        found = class_statistics(unit_rows(embeddings)[0], centres, labels, 4.0, clip, True, sub_centres, memory)
        return found.target_cosine, found.log_sum_exp, found.cosine_sum

    # gradcheck pulls at one output at a time, up and down: incoming gradients of 0 and of either sign.
    assert torch.autograd.gradcheck(numbers, (2 * units.requires_grad_(), centres.requires_grad_()))


@pytest.mark.parametrize('frozen', ['units', 'centres'])
def test_frozen_inputs_cost_no_gradient(frozen):
    units, centres, labels = batch()
    trained = dict(units=units, centres=centres)
    trained.pop(frozen)
    wanted = []
    for both in (True, False):
        units.grad = centres.grad = None
        units.requires_grad_(both or frozen != 'units')
        centres.requires_grad_(both or frozen != 'centres')
        class_statistics(units, centres, labels, with_sum=True).log_sum_exp.sum().backward()
        wanted.append(next(iter(trained.values())).grad)
    torch.testing.assert_close(*wanted, rtol=0, atol=0)
    assert dict(units=units, centres=centres)[frozen].grad is None


@pytest.mark.parametrize('sizes', [[3, 4], [0, 7], [1, 1, 5], [7]])
def test_parts_merge_into_the_whole(sizes):
    units, centres, labels = batch()
    units.requires_grad_()
    whole_centres = centres.clone().requires_grad_()
    whole = class_statistics(units, whole_centres, labels, 20.0, None, True)
    factors = torch.randn(3, len(units), dtype=units.dtype)
    sum((f * s).sum() for f, s in zip(factors, whole[:3], strict=True)).backward()
    expected, units.grad = units.grad, None

    parts = [part.clone().requires_grad_() for part in centres.split(sizes)]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    merged = merge_class_statistics(
        [
            class_statistics(units, part, labels - start, 20.0, None, True)
            for part, start in zip(parts, starts, strict=True)
        ],
        starts,
    )
    torch.testing.assert_close(merged, whole)
    sum((f * s).sum() for f, s in zip(factors, merged[:3], strict=True)).backward()
    torch.testing.assert_close(units.grad, expected)
    torch.testing.assert_close(torch.cat([part.grad for part in parts]), whole_centres.grad)


def test_the_first_of_equals_is_the_best():
    units, centres = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [2.0, 0.0], [3.0, 0.0], [-1.0, 0.0]])
    for memory in (1, 10**6):
        assert class_statistics(units, centres, torch.tensor([0]), memory=memory).best_class.tolist() == [1]
        assert class_statistics(units, centres, torch.tensor([1]), memory=memory).best_class.tolist() == [2]
    parts = [class_statistics(units, part, torch.tensor([9])) for part in centres.split(2)]
    assert merge_class_statistics(parts, [0, 2]).best_class.tolist() == [1]


def test_no_other_class():
    units, centres, labels = batch(num_classes=1)
    units.requires_grad_()
    centres.requires_grad_()
    found = class_statistics(units, centres, labels, with_sum=True)
    assert (found.log_sum_exp < -1e30).all()
    assert found.log_sum_exp.isfinite().all()
    assert (found.best_cosine < -1).all()
    (found.log_sum_exp.exp() + found.target_cosine + found.cosine_sum).sum().backward()
    cosine = torch.nn.functional.cosine_similarity(units, centres)
    expected = torch.autograd.grad(2 * (cosine * units.detach().norm(dim=1)).sum(), centres)[0]
    torch.testing.assert_close(centres.grad, expected)


def test_no_class_and_no_embedding():
    units, centres, labels = batch()
    found = class_statistics(units.requires_grad_(), centres[:0].requires_grad_(), labels, with_sum=True)
    sum(part.sum() for part in found[:3]).backward()
    assert units.grad.abs().sum() == 0
    assert found.target_cosine.tolist() == [0.0] * 5
    assert class_statistics(units[:0], centres, labels[:0]).log_sum_exp.shape == (0,)


@pytest.mark.parametrize('shift', [-0.9, 0.9])
def test_far_below_or_above_the_largest(shift):
    """Sums that would underflow or overflow if logits were not measured from the largest of the others."""
    units = torch.tensor([[1.0, 0.0]])
    centres = torch.tensor([[1.0, 0.0], [shift, math.sqrt(1 - shift**2)], [shift, -math.sqrt(1 - shift**2)]])
    for memory in (1, 10**6):
        found = class_statistics(units, centres, torch.tensor([0]), scale=300.0, memory=memory)
        torch.testing.assert_close(found.log_sum_exp, torch.tensor([300 * shift + math.log(2)]))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_centres(dtype):
    units, centres, labels = batch(dtype=torch.float32)
    half = centres.to(dtype).requires_grad_()
    full = half.detach().float().requires_grad_()
    for given in (half, full):
        class_statistics(units, given, labels, 20.0, memory=300).log_sum_exp.sum().backward()
    assert half.grad.dtype == dtype
    torch.testing.assert_close(half.grad, full.grad.to(dtype), rtol=0, atol=0)


def test_autocast_does_not_touch_it():
    units, centres, labels = batch(dtype=torch.float32)
    centres.requires_grad_()
    grads = []
    for enabled in (False, True):
        centres.grad = None
        with torch.autocast('cpu', torch.bfloat16, enabled):
            class_statistics(units, centres, labels).log_sum_exp.sum().backward()  # backward in it, too
        grads.append(centres.grad)
    torch.testing.assert_close(*grads, rtol=0, atol=0)


def test_centres_without_direction():
    units, centres, labels = batch()
    centres[3] = 0
    centres.requires_grad_()
    found = class_statistics(units, centres, labels, with_sum=True)
    (found.log_sum_exp + found.cosine_sum).sum().backward()
    assert centres.grad.isfinite().all()
    assert centres.grad[3].abs().sum() == 0
    assert inverse_lengths(centres.detach())[3] == 0


def test_a_nan_stays_with_its_row():
    units, centres, labels = batch(dtype=torch.float32)
    units[2] = math.nan
    log_sum = class_statistics(units, centres, labels, memory=300).log_sum_exp
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
    """Bytes of each piece of memory that a training step takes, but for centres and gradients."""
    embeddings, labels = torch.randn(64, 8, requires_grad=True), torch.randint(num_classes, (64,))
    centres = torch.randn(num_classes * settings.get('sub_centres', 1), 8, requires_grad=True)
    with Watch() as watch:
        margin_cross_entropy(
            embeddings, centres, labels, lambda cosine, norm: cosine - 0.1, softmax=softmax, memory=2**16, **settings
        )[0].backward()
    for tensor in (centres, centres.grad, embeddings.grad):
        watch.storages.pop(tensor.untyped_storage().data_ptr(), None)
    return [storage.nbytes() for storage in watch.storages.values()], len(centres)


@pytest.mark.parametrize(
    'settings',
    [dict(), dict(label_smoothing=0.1), dict(cosine_clip=1e-3, label_smoothing=0.1), dict(sub_centres=2)],
    ids=['plain', 'smoothing', 'clip', 'sub-centres'],
)
def test_neither_logits_nor_a_second_matrix_of_centres_is_ever_held(settings):
    num_classes = 20_000
    sizes, num_centres = sizes_beyond_the_gradients('streamed', num_classes, **settings)
    # One number a centre and the blocks may be held; N x C logits are 64 numbers a class, a second C x D 8 a centre.
    assert max(sizes) <= max(2**16, 4 * num_centres)
    assert sum(size >= 4 * num_centres for size in sizes) == 1
    sizes, _ = sizes_beyond_the_gradients('dense', num_classes, **settings)
    assert max(sizes) >= 4 * 64 * num_classes  # the watch sees what it is there for


def test_the_blocks_keep_to_their_memory():
    units, centres, labels = batch(64, 1000, 8, dtype=torch.float32)
    with mock.patch('torch.mm', wraps=torch.mm) as products:
        class_statistics(units, centres, labels, memory=2**15)
    assert len(products.mock_calls) == math.ceil(1000 / (2**15 // (2 * 4 * 64)))


@pytest.mark.parametrize('memory', MEMORY)
@pytest.mark.parametrize(('clip', 'sub_centres'), [(None, 1), (0.3, 3)])
def test_chosen_rows_are_a_set_of_their_own(memory, clip, sub_centres):
    units, centres, labels = batch(5, 9, 4, sub_centres)
    classes = torch.tensor([6, 0, 8, 5])
    rows = (classes.unsqueeze(1) * sub_centres + torch.arange(sub_centres)).flatten()
    labels %= 4
    everything = []
    for chosen in (rows, None):
        u, c = units.clone().requires_grad_(), centres.clone().requires_grad_()
        found = class_statistics(
            u, c if chosen is not None else c[rows], labels, 9.0, clip, True, sub_centres, memory, chosen
        )
        (found.target_cosine.sum() + found.log_sum_exp.square().sum() - found.cosine_sum.sum()).backward()
        everything.append((*found, u.grad, c.grad))
    for own, other in zip(*everything, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-12)
    assert everything[0][-1][sub_centres : 2 * sub_centres].count_nonzero() == 0


def test_chosen_rows_of_half_precision():
    units, centres, labels = batch(5, 9, 4, dtype=torch.float32)
    half = centres.bfloat16().requires_grad_()
    rows = torch.tensor([6, 0, 8])
    class_statistics(units, half, labels % 3, 9.0, memory=300, chosen=rows).log_sum_exp.sum().backward()
    full = half.detach().float().requires_grad_()
    class_statistics(units, full[rows], labels % 3, 9.0).log_sum_exp.sum().backward()
    assert half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(half.grad, full.grad.bfloat16())


@pytest.mark.parametrize(
    ('keys', 'words'), [(dict(memory=0), 'memory=0'), (dict(sub_centres=2), '7 centres cannot be sub_centres=2')]
)
def test_wrong_settings(keys, words):
    with pytest.raises(ValueError, match=words):
        class_statistics(*batch(), **keys)


@pytest.mark.parametrize(('rows', 'width', 'num_labels'), [(5, 4, 4), (5, 3, 5), (5, 4, 1)])
def test_shapes_that_do_not_fit(rows, width, num_labels):
    _, centres, _ = batch()
    with pytest.raises(ValueError, match='do not fit'):
        class_statistics(torch.ones(rows, width), centres, torch.zeros(num_labels, dtype=torch.int64))
