"""Triton's kernels against the streamed form: interpreted on a CPU in one process, and on a GPU where there is one."""

import math
from copy import deepcopy
from importlib.util import find_spec
from unittest import mock

import pytest
import torch
from triton_interpreter import run_interpreted

from hybridcls.functional import margin_cross_entropy
from hybridcls.functional.margins import kernel_softmax, streamed_softmax
from hybridcls.functional.margins.kernel_softmax import KernelSoftmax, kernels_work
from hybridcls.registry import MODELS

NEEDS_TRITON = pytest.mark.skipif(find_spec('triton') is None, reason='Triton is not installed')

# Who multiplies; then clip, sum, chosen, bias: 150 classes are two blocks of 128 and 22, or one.
FORMS = [(False, False), (True, True)]
CASES = {
    'plain': dict(),
    'clip, sum, bias': dict(cosine_clip=0.6, with_sum=True, logit_bias=True),
    'sampled, sum': dict(with_sum=True, chosen=True),
    'rest of a tile': dict(num=130, width=20, num_classes=5),
    'columns in memory': dict(transposed=True),
}
PRECISIONS = ('float32', 'bfloat16')


def problem(num=7, num_classes=150, width=24, chosen=False, logit_bias=False, transposed=False, device='cpu', **keys):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    units = torch.nn.functional.normalize(draw(num, width))
    set_of_classes = torch.randperm(num_classes, generator=generator)[: num_classes // 2] if chosen else None
    count = num_classes if set_of_classes is None else len(set_of_classes)
    labels = torch.randint(count, (num,), generator=generator)
    labels[0] = -1
    bias = draw(count) if logit_bias else None
    class_weights = 0.1 * draw(num_classes, width)
    if transposed:  # as AdaFace's own head keeps them
        class_weights = class_weights.t().contiguous().t()
    tensors = dict(units=units, class_weights=class_weights, labels=labels)
    tensors.update(chosen=set_of_classes, logit_bias=bias, pulls=draw(3, num))
    return {name: None if t is None else t.to(device) for name, t in tensors.items()}, keys


def results(form, precision, memory, *, dtype=torch.float32, device='cpu', scale=16.0, **case):
    """Statistics, and the gradients for incoming ones of either sign."""
    tensors, keys = problem(device=device, **case)
    units, class_weights = (tensors[name].to(dtype).requires_grad_() for name in ('units', 'class_weights'))
    found = form.apply(
        units,
        class_weights,
        tensors['labels'],
        scale,
        keys.get('cosine_clip'),
        keys.get('with_sum', False),
        1,
        memory,
        tensors['chosen'],
        tensors['logit_bias'],
        precision,
    )
    sum(
        (pull * part).sum() for pull, part in zip(tensors['pulls'], found[:3], strict=True) if part is not None
    ).backward()
    return [None if part is None else part.detach() for part in (*found, units.grad, class_weights.grad)]


def interpreted(path):
    """Run all cases; in a process that has TRITON_INTERPRET=1 before Triton is imported."""
    found = {}
    for precision in PRECISIONS:
        for form in FORMS:
            kernel_softmax._FORMS[precision] = kernel_softmax._Form(*form)
            for name, case in CASES.items():
                for memory in (4000, 10**7):
                    found[precision, form, name, memory] = results(KernelSoftmax, precision, memory, **case)
    kernel_softmax._compare_with_the_streamed_form(torch.device('cpu'))
    try:
        torch.set_default_dtype(torch.float64)
        found['default of float64'] = results(KernelSoftmax, 'float32', 4000)
    finally:
        torch.set_default_dtype(torch.float32)
    with mock.patch.object(kernel_softmax, 'SHORTEST', 1e9):
        try:
            kernel_softmax._compare_with_the_streamed_form(torch.device('cpu'))
        except ArithmeticError as error:
            found['wrong kernels'] = str(error)
    torch.save(found, path)


@pytest.fixture(scope='module')
def by_interpreter(tmp_path_factory):
    path = tmp_path_factory.mktemp('interpreted') / 'found.pt'
    run_interpreted(__file__, path)
    return torch.load(path)


@NEEDS_TRITON
@pytest.mark.parametrize('memory', [4000, 10**7])
@pytest.mark.parametrize('name', list(CASES))
@pytest.mark.parametrize('form', FORMS, ids=['cuBLAS', 'Triton'])
@pytest.mark.parametrize('precision', PRECISIONS)
def test_kernels_are_the_streamed_form(by_interpreter, precision, form, name, memory):
    found = by_interpreter[precision, form, name, memory]
    expected = results(streamed_softmax.StreamedSoftmax, precision, memory, **CASES[name])
    for own, other in zip(found, expected, strict=True):
        assert (own is None) == (other is None)
        if own is not None:
            torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5 * float(other.abs().max()))


@NEEDS_TRITON
def test_kernels_that_compute_something_else_are_not_used(by_interpreter):
    assert by_interpreter['wrong kernels'] == 'bfloat16 is not what the streamed form computes'


@NEEDS_TRITON
def test_the_default_dtype_changes_nothing(by_interpreter):
    assert [part.dtype for part in by_interpreter['default of float64'] if part is not None][-1] == torch.float32


@NEEDS_TRITON
def test_a_block_of_any_size_is_one_launch():
    """CUDA takes 65,535 programs in the second dimension of a grid, and 2^31 in the first."""
    units, labels = torch.empty(4, 256, device='meta'), torch.empty(4, dtype=torch.int64, device='meta')
    rows = 128 * 70_000
    block, factors = torch.empty(rows, 256, device='meta'), torch.empty(rows, device='meta')
    launch = kernel_softmax._Launch(units, labels, factors, None, 64.0, None, False, 'bfloat16')
    launch.kernels = mock.MagicMock()
    launch.gradient_of_weights(torch.empty(rows, 4, device='meta'), units, block, factors, block)
    assert launch.kernels.gradient_of_weights.__getitem__.call_args.args == ((140_000,),)


def test_a_cpu_has_no_kernels():
    assert not kernels_work(torch.device('cpu'))


def test_kernels_that_fail_are_told_once_and_not_used(monkeypatch):
    kernel_softmax._tried.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match='do not run on cuda:7.*streamed form computes the same'):
            assert not kernel_softmax._tried(7)
    finally:
        kernel_softmax._tried.cache_clear()


@NEEDS_TRITON
@pytest.mark.gpu
@pytest.mark.parametrize('name', list(CASES))
@pytest.mark.parametrize('form', [*FORMS, (True, False), (False, True)], ids=str)
@pytest.mark.parametrize(('precision', 'error'), [('float32', 2e-5), ('tf32', 5e-3), ('bfloat16', 2e-2)])
def test_kernels_on_a_gpu_against_float64(monkeypatch, precision, error, form, name):
    monkeypatch.setitem(kernel_softmax._FORMS, precision, kernel_softmax._Form(*form))
    case = dict(dict(num=300, num_classes=3000, width=128), **CASES[name])
    expected = results(streamed_softmax.StreamedSoftmax, 'float32', 10**7, dtype=torch.float64, **case)
    for memory in (100_000, 10**8):
        found = results(KernelSoftmax, precision, memory, device='cuda', **case)
        again = results(KernelSoftmax, precision, memory, device='cuda', **case)
        for number, (own, other) in enumerate(zip(found, expected, strict=True)):
            if own is None or number == 4:  # the best class may be another one that is nearly as good
                continue
            assert own.equal(again[number])  # deterministic
            assert float((own.cpu().double() - other).norm() / other.norm()) < error


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)])
@pytest.mark.parametrize('precision', ['float32', 'tf32', 'bfloat16'])
def test_a_head_in_mixed_precision(precision, device):
    torch.manual_seed(0)
    keys = dict(type='ArcFaceHead', num_classes=1000, in_channels=64, softmax='streamed', head_precision=precision)
    head = MODELS.build(keys).to(device)
    embeddings, labels = torch.randn(32, 64, device=device), torch.arange(32, device=device)
    losses, gradients = [], []
    for module, features, amp in ((head, embeddings, True), (deepcopy(head).double(), embeddings.double(), False)):
        with torch.autocast(device, torch.bfloat16, enabled=amp):
            loss, _ = module._cross_entropy(features, labels)
        loss.backward()
        losses.append(loss.detach().double())
        gradients.append(module.weight.grad.double().clone())
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-3)
    assert float((gradients[0] - gradients[1]).norm() / gradients[1].norm()) < 2e-2


@pytest.mark.parametrize('precision', ['float32', 'tf32', 'bfloat16'])
def test_the_target_class_is_left_out_of_the_sum(precision):
    """A target 0.9 rad away at scale 64 among 1e5 classes: a plain float32 sum that is corrected gives 0."""
    scale, margin, angle = 64.0, 0.5, 0.9
    generator = torch.Generator().manual_seed(0)
    class_weights = torch.nn.functional.normalize(torch.randn(100_000, 512, generator=generator))
    across = torch.randn(512, generator=generator)
    across -= class_weights[0] * (class_weights[0] @ across)
    unit = (math.cos(angle) * class_weights[0] + math.sin(angle) * across / across.norm()).unsqueeze(0)

    logits = scale * (class_weights @ unit[0])
    target = torch.tensor(scale * math.cos(angle + margin))
    exact = (logits[1:].double().logsumexp(0) - target.double()).exp().log1p().item()
    corrected = (logits.logsumexp(0).exp() - logits[0].exp() + target.exp()).log() - target
    assert exact == pytest.approx(4.5, abs=0.1)
    assert corrected == pytest.approx(0, abs=1e-5)

    loss, _ = margin_cross_entropy(
        unit,
        class_weights,
        torch.tensor([0]),
        lambda cosine, norms: (cosine.acos() + margin).cos(),
        scale,
        softmax='streamed',
        precision=precision,
    )
    assert loss.item() == pytest.approx(exact, abs=1e-2 if precision == 'bfloat16' else 1e-4)


def test_the_comparison_has_gradients_wherever_it_is_asked_for(monkeypatch):
    asked = []

    def compare(device):
        asked.append((str(device), torch.is_inference_mode_enabled(), torch.is_grad_enabled()))

    monkeypatch.setattr(kernel_softmax, '_compare_with_the_streamed_form', compare)
    with torch.inference_mode():
        assert kernel_softmax._tried.__wrapped__(1)
    assert asked == [('cuda:1', False, True)]
