"""The loss by Triton's kernels against float64: interpreted on a CPU, and on a GPU where there is one."""

import multiprocessing
from contextlib import ExitStack
from importlib.util import find_spec
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from triton_interpreter import run_interpreted

from hybridcls.functional.contrastive import kernel_logsumexp, kernels_serve, streamed_logsumexp, supervised_contrast
from hybridcls.functional.margins import streamed_softmax
from hybridcls.registry import MODELS

NEEDS_TRITON = pytest.mark.skipif(find_spec('triton') is None, reason='Triton is not installed')

# Images, views, width, classes (0: without labels; -1: each twice but for three that occur once), and the rest.
CASES = {
    'two views': dict(size=(110, 2, 24), num_classes=20),
    'one class': dict(size=(200, 1, 16), num_classes=1),
    'classes that occur once': dict(size=(203, 1, 20), num_classes=-1),
    'no positives at all': dict(size=(193, 1, 8), num_classes=193),
    'three views, odd width, without labels': dict(size=(67, 3, 13), num_classes=0),
    'large logits': dict(size=(105, 2, 24), num_classes=9, temperature=0.01),
    'first views as anchors': dict(size=(100, 2, 24), num_classes=9, contrast_mode='one', anchor_mean='all'),
    'queue': dict(size=(90, 2, 16), num_classes=11, queue=50, base_temperature=0.07),
    'queue of negatives': dict(size=(90, 2, 16), num_classes=0, queue=50),
    'part of a batch': dict(size=(120, 2, 16), num_classes=17, part=(30, 75)),
    'bfloat16 embeddings': dict(size=(110, 2, 24), num_classes=20, dtype=torch.bfloat16),
    'float16 embeddings': dict(size=(110, 2, 24), num_classes=20, dtype=torch.float16),
    'autocast': dict(size=(110, 2, 24), num_classes=20, autocast=True),
    'a zero embedding': dict(size=(110, 2, 24), num_classes=20, zero=True),
}
ROUNDED = ('two views', 'large logits', 'queue')  # in bfloat16, too


def result(name, precision='float32', exact=False, device='cpu', **given):
    """The loss and its gradients to the embeddings, the others and the temperature, each in float64."""
    case = dict(CASES[name])
    num_images, _, width = size = case.pop('size')
    num_classes, temperature = case.pop('num_classes'), case.pop('temperature', 0.1)
    dtype, part, num_past = case.pop('dtype', torch.float32), case.pop('part', None), case.pop('queue', 0)
    autocast, zero = case.pop('autocast', False), case.pop('zero', False)
    generator = torch.Generator().manual_seed(0)
    embeddings = (3 * torch.randn(size, generator=generator)).to(dtype)
    if zero:
        embeddings[5, 1] = 0
    labels = torch.randint(abs(num_classes), (num_images,), generator=generator) * 7 - 3 if num_classes else None
    if abs(num_classes) == num_images:
        labels = torch.randperm(num_images, generator=generator)
    if num_classes == -1:
        labels = torch.arange(num_images) // 2
        labels[:3] += 1000 * torch.arange(1, 4)
    past, past_labels = None, None
    if num_past:
        past = torch.randn(num_past, width, generator=generator)
        past_labels = labels[:num_past] + 7 if labels is not None else None
    tau = torch.tensor(temperature)
    if exact:
        embeddings, past, tau = (None if t is None else t.double() for t in (embeddings, past, tau))
    embeddings, tau = embeddings.to(device).requires_grad_(), tau.to(device).requires_grad_()
    labels, past, past_labels = (None if t is None else t.to(device) for t in (labels, past, past_labels))
    sets = dict(embeddings=embeddings, labels=labels, queue_embeddings=past, queue_labels=past_labels)
    if part is not None:
        sets.update(contrast_embeddings=embeddings, contrast_labels=labels, first_anchor=part[0])
        sets.update(embeddings=embeddings[slice(*part)], labels=labels[slice(*part)])
    with torch.autocast(device, torch.bfloat16, enabled=autocast and not exact):
        loss = supervised_contrast(temperature=tau, precision=precision, **sets, **case, **given)
        gradients = torch.autograd.grad(loss, (embeddings, tau))
    return [number.detach().cpu().double() for number in (loss, *gradients)]


def exact(name):
    """All similarities at once, in float64."""
    return result(name, exact=True, streamed=False)


def kernels_on_a_cpu():
    stack = ExitStack()
    for place in ('contrastive.kernel_logsumexp', 'margins.streamed_softmax'):
        stack.enter_context(mock.patch(f'hybridcls.functional.{place}.kernels_work', return_value=True))
    return stack


def interpreted(folder):
    """Run all cases; in a process that has TRITON_INTERPRET=1 before Triton is imported."""
    fork = multiprocessing.get_context('fork')
    halves = [fork.Process(target=half, args=(rank, folder)) for rank in range(2)]
    for process in halves:
        process.start()
    found = {}
    kernel = mock.patch.object(streamed_softmax, 'KernelSoftmax', wraps=streamed_softmax.KernelSoftmax)
    with kernels_on_a_cpu(), kernel as used:
        for name in CASES:
            for precision in ('float32', 'bfloat16') if name in ROUNDED else ('float32',):
                used.apply.reset_mock()
                found[name, precision] = result(name, precision, kernels=True)
                assert used.apply.called, name
    torch.save(found, f'{folder}/found.pt')
    for process in halves:
        process.join()
    assert [process.exitcode for process in halves] == [0, 0]


@pytest.fixture(scope='module')
def by_interpreter(tmp_path_factory):
    folder = tmp_path_factory.mktemp('interpreted')
    run_interpreted(__file__, folder)
    return folder


@NEEDS_TRITON
@pytest.mark.parametrize('name', list(CASES))
def test_kernels_are_exact(by_interpreter, name):
    found = torch.load(by_interpreter / 'found.pt')[name, 'float32']
    for own, other in zip(found, exact(name), strict=True):
        rounding = {'bfloat16 embeddings': 4e-3, 'float16 embeddings': 5e-4}.get(name, 1e-5) if own.dim() else 1e-5
        torch.testing.assert_close(own, other, rtol=rounding, atol=max(1e-9, 1e-5 * float(other.abs().max())))


@NEEDS_TRITON
@pytest.mark.parametrize('name', ROUNDED)
def test_kernels_in_bfloat16_are_as_exact_as_the_streamed_form(by_interpreter, name):
    found = torch.load(by_interpreter / 'found.pt')[name, 'bfloat16']
    expected, streamed = exact(name), result(name, 'bfloat16')
    for own, other, whole in zip(found, streamed, expected, strict=True):
        assert float((own - whole).norm()) <= 1.5 * float((other - whole).norm()) + 1e-4 * float(whole.norm())


@NEEDS_TRITON
@pytest.mark.gpu
@pytest.mark.parametrize('name', list(CASES))
@pytest.mark.parametrize(('precision', 'error'), [('float32', 2e-5), ('tf32', 2e-2), ('bfloat16', 5e-2)])
def test_kernels_on_a_gpu_against_float64(precision, error, name):
    found, again = (result(name, precision, device='cuda', kernels=True) for _ in range(2))
    for own, other, once_more in zip(found, exact(name), again, strict=True):
        assert own.equal(once_more)  # deterministic
        if own.dim():  # their gradients are rounded to the dtype of the embeddings
            error = max(error, {'bfloat16 embeddings': 4e-3, 'float16 embeddings': 5e-4}.get(name, 0))
        # Rounded similarities are off by a share of 1 / temperature, which the loss sees.
        assert float((own - other).norm()) <= error * max(float(other.norm()), 1e-3)


class Net(torch.nn.Module):
    def __init__(self, kernels):
        super().__init__()
        torch.manual_seed(0)
        self.project = torch.nn.Linear(6, 5)
        keys = dict(learn_temperature=True, queue=dict(size=70, dim=5))
        self.loss = MODELS.build(dict(type='SupConLoss', kernels=kernels, **keys))

    def forward(self, images, labels):
        return self.loss(torch.stack([self.project(images), self.project(images.flip(1))], 1), labels)


def two_steps(net, rows):
    """The second one has a queue to look back to."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        images, labels = torch.randn(130, 6, generator=generator), torch.randint(60, (130,), generator=generator)
        loss = net(images[rows], labels[rows])
        loss.backward()
    return [loss.detach(), *(param.grad for param in net.parameters())]


def half(rank, folder):
    with kernels_on_a_cpu():
        torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
        net = torch.nn.parallel.DistributedDataParallel(Net(kernels=True))
        torch.save(two_steps(net, (slice(0, 85), slice(85, 130))[rank]), f'{folder}/{rank}.pt')
        torch.distributed.destroy_process_group()


@NEEDS_TRITON
def test_kernels_on_two_processes_are_one_with_the_whole_batch(by_interpreter):
    expected = two_steps(Net(kernels=False), slice(None))
    for rank in range(2):
        torch.testing.assert_close(torch.load(by_interpreter / f'{rank}.pt'), expected, rtol=1e-5, atol=1e-6)


def test_by_operations_of_torch_it_is_the_streamed_form():
    generator = torch.Generator().manual_seed(0)
    draws = (torch.randn(count, 7, generator=generator, dtype=torch.float64) for count in (9, 4, 1))
    anchors, *others = (F.normalize(rows, dim=1).requires_grad_() for rows in draws)
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    found = []
    for log_sums in (kernel_logsumexp(anchors, tau, others), streamed_logsumexp(anchors, tau, others)[0]):
        gradients = torch.autograd.grad((log_sums * log_sums.detach().sin()).sum(), [anchors, *others, tau])
        # What lies along an embedding is dropped by its normalization.
        across = [
            gradient - (gradient * rows).sum(1, keepdim=True) * rows
            for gradient, rows in zip(gradients[:-1], [anchors, *others], strict=True)
        ]
        found.append([log_sums, *across, gradients[-1]])
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


def test_a_cpu_has_no_kernels():
    assert not kernels_serve(torch.empty(1))


def test_an_anchor_alone_has_a_finite_sum():
    anchor = F.normalize(torch.ones(1, 4), dim=1).requires_grad_()
    log_sums = kernel_logsumexp(anchor, 0.1)
    assert -torch.inf < log_sums.item() < -1e30
    assert torch.autograd.grad(log_sums.sum() * 0, anchor)[0].eq(0).all()


@pytest.mark.parametrize(('count', 'dtype'), [(200, torch.float64), (5, torch.float32)])
def test_what_is_computed_in_float64_keeps_the_streamed_form(count, dtype):
    embeddings = torch.randn(count, 2, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    missing = mock.patch('hybridcls.functional.contrastive.supervised_contrast.kernel_logsumexp', None)
    with kernels_on_a_cpu(), missing:
        found = supervised_contrast(embeddings, streamed=True, kernels=True)
    torch.testing.assert_close(found, supervised_contrast(embeddings, streamed=True))
