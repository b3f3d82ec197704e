"""On a device that is not the CPU: nothing is left on the CPU, and nothing of the CPU's meets the device's.

Each check runs in a process of its own, which has the device of ``pretend_device.py``.
"""

from copy import deepcopy

import pretend_device
import pytest
import torch
from processes import run_process
from test_levers import GROUPS, configs, plain, train, with_levers  # noqa: F401  (fixtures)

from hybridcls.apis.fidelity import Place, chosen_cases, compare
from hybridcls.compat.mmengine.default_device import set_device


def check_there(check, *arguments):
    """Call ``check(device, *arguments)`` in a process that has the device, and fail with what it wrote."""
    ended = run_process(_checked, check, *arguments)
    assert ended.status == 0, ended.output[-6000:]


def _checked(check, *arguments):
    device = pretend_device.set_up()
    set_device(device.type)
    check(device, *arguments)


def refuses_what_cuda_refuses(device):
    here, there = torch.ones(3, 4), torch.ones(3, 4, device=device)
    rows, mask = torch.arange(3), torch.ones(3, 4, dtype=torch.bool)
    mistakes = dict(
        a_sum=lambda: there + here,
        a_sum_in_place=lambda: here.add_(there),
        a_number_into_the_cpu=lambda: here.add_(there.sum()),
        a_product=lambda: there @ here.T,
        a_range=lambda: torch.nn.functional.cross_entropy(there, rows),
        a_class_weight=lambda: torch.nn.functional.cross_entropy(there, rows.to(device), weight=here[0]),
        a_mask=lambda: there.masked_fill(mask, 0),
        a_choice=lambda: torch.where(mask, there, there),
        a_row=lambda: torch.cat([there, here]),
        rows=lambda: there.index_select(0, rows),
        rows_of_the_cpu=lambda: here[rows.to(device)],
        values=lambda: there.__setitem__(mask.to(device), here.flatten()),
        a_gather=lambda: there.gather(0, torch.zeros(1, 4, dtype=torch.long)),
        a_generator=lambda: torch.randn(2, device=device, generator=torch.Generator()),
        a_module=lambda: torch.nn.Linear(4, 2)(there),
        an_array=lambda: there.numpy(),
        what_cuda_lacks=lambda: torch.histogram(there, 3),
    )
    for name, mistake in mistakes.items():
        with pytest.raises((RuntimeError, TypeError)):
            print(name, 'gave', mistake())
    # And these are no mistakes.
    assert (there + torch.tensor(2.0)).device == there[rows].device == device
    assert torch.where(there > 0, torch.tensor(1.0), there).device == device
    assert torch.rand(2, device=device, generator=torch.Generator(device)).device == device


def computes_what_the_cpu_computes(device):
    """Views, gradients in place, resized outputs, random numbers, a copy, a file: of two tensors in one memory."""
    leaf = torch.arange(6.0).view(2, 3).to(device).requires_grad_()
    changed = leaf * 1
    changed.T[1].mul_(3)
    changed.sum().backward()
    assert leaf.grad.tolist() == [[1, 3, 1], [1, 3, 1]]
    out = torch.empty(0, device=device)
    torch.add(leaf.detach(), 1, out=out)
    assert out.tolist() == [[1, 2, 3], [4, 5, 6]]
    layer = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).to(device)
    copied = deepcopy(layer)
    copied[0].weight.data.zero_()
    assert layer[0].weight.abs().sum() > 0
    assert copied[0].weight.device == device
    torch.manual_seed(0)
    first = torch.rand(3, device=device).tolist()
    torch.manual_seed(0)
    torch.rand(5)
    assert torch.rand(3, device=device).tolist() == first
    with torch.autocast(device.type, torch.bfloat16):
        assert torch.nn.Linear(3, 2, device=device)(leaf).dtype == torch.bfloat16
        assert leaf.softmax(1).dtype == torch.float32


def agrees_with_the_papers(device, names, dtype):
    for case in chosen_cases(names):
        found = compare(case, Place(device, dtype))
        assert found.ok, f'{case.name}: {found.deviation} of {found.tolerance}, {found.problem}'


def trains(device, cfg, folder):
    """Train, and again from the middle: to the same bits, all of it on the device."""
    cfg.train_dataloader.dataset.indices = 16
    straight = train(deepcopy(cfg), folder / 'straight', epochs=2).model.state_dict()
    assert {value.device for value in straight.values()} == {device}
    (folder / 'straight' / 'epoch_2.pth').unlink()
    resumed = train(deepcopy(cfg), folder / 'again', str(folder / 'straight' / 'epoch_1.pth'), epochs=2).model
    for (name, value), other in zip(straight.items(), resumed.state_dict().values(), strict=True):
        assert value.isfinite().all(), name
        assert torch.equal(value, other), name


@pytest.mark.parametrize('check', [refuses_what_cuda_refuses, computes_what_the_cpu_computes])
def test_the_device_is_like_one(check):
    check_there(check)


QUICK = ['margin', 'head', 'loss', 'module', 'stage', 'token merging', 'RetrievalMetric', 'KNNAccuracy', 'OODMetric']


@pytest.mark.parametrize(
    ('names', 'dtype'),
    [
        pytest.param(QUICK, torch.float32, id='most, float32'),
        pytest.param([], torch.float32, marks=pytest.mark.nightly, id='all, float32'),
        pytest.param([], torch.float64, marks=pytest.mark.nightly, id='all, float64'),
    ],
)
def test_fidelity_there(names, dtype):
    check_there(agrees_with_the_papers, names, dtype)


MANY = ('cbam', 'token merging', 'sam', 'gc', 'lookahead', 'distillation', 'ema', 'clipping', 'bfloat16', 'adaface')


@pytest.mark.parametrize(
    'levers',
    [
        pytest.param(MANY, id='many'),
        *(pytest.param(group, marks=pytest.mark.nightly, id=' + '.join(group)) for group in GROUPS),
    ],
)
def test_levers_there(levers, plain, configs, tmp_path):  # noqa: F811
    check_there(trains, with_levers(plain, configs, levers), tmp_path)
