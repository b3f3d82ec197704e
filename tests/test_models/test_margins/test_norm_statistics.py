"""AdaFace's running statistics move by the norms of all processes together, in place."""

import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
from processes import run_processes

from hybridcls.models.margins.norm_statistics import update_norm_statistics

NORMS = np.array([10.0, 12.0, 14.0, 30.0, 7.0])


def expected(norms, t_alpha):
    return t_alpha * norms.mean() + (1 - t_alpha) * 20, t_alpha * norms.std(ddof=1) + (1 - t_alpha) * 100


def moved(norms, t_alpha):
    mean, std = torch.tensor(20.0), torch.tensor(100.0)
    norms = torch.tensor(norms, dtype=torch.float32, requires_grad=True)
    update_norm_statistics(norms, mean, std, t_alpha)
    assert not mean.requires_grad
    return mean.item(), std.item()


def test_statistics_are_the_ema_of_the_unbiased_ones():
    generator = torch.Generator().manual_seed(0)
    mean, std = torch.tensor(20.0), torch.tensor(100.0)
    expected = [20.0, 100.0]
    for _ in range(4):
        norms = 50 * torch.rand(7, generator=generator)
        update_norm_statistics(norms, mean, std, t_alpha=0.3)
        expected = [
            0.3 * norms.double().mean().item() + 0.7 * expected[0],
            0.3 * norms.double().std().item() + 0.7 * expected[1],
        ]
    torch.testing.assert_close([mean.item(), std.item()], expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_statistics_of_half_precision_norms_are_float32(dtype):
    mean, std = torch.tensor(0.0), torch.tensor(0.0)
    update_norm_statistics(torch.tensor([10.0, 12.0, 14.0] * 1000, dtype=dtype), mean, std, t_alpha=1.0)
    torch.testing.assert_close(mean, torch.tensor(12.0))
    torch.testing.assert_close(std, torch.tensor([10.0, 12.0, 14.0] * 1000).std())


def test_a_batch_of_one_moves_the_mean_alone():
    mean, std = torch.tensor(20.0), torch.tensor(100.0)
    update_norm_statistics(torch.tensor([10.0]), mean, std, t_alpha=0.5)
    assert (mean.item(), std.item()) == (15.0, 100.0)


def test_norms_that_are_not_finite_are_left_out():
    mean, std = torch.tensor(20.0), torch.tensor(100.0)
    update_norm_statistics(torch.tensor([math.nan, 10.0, math.inf, 14.0]), mean, std, t_alpha=1.0)
    torch.testing.assert_close([mean.item(), std.item()], [12.0, math.sqrt(8.0)])
    update_norm_statistics(torch.tensor([math.nan]), mean, std, t_alpha=1.0)
    update_norm_statistics(torch.zeros(0), mean, std, t_alpha=1.0)
    torch.testing.assert_close([mean.item(), std.item()], [12.0, math.sqrt(8.0)])


def work(rank):
    dist.init_process_group('gloo')
    own = NORMS[:1] if rank == 0 else NORMS[1:]  # of different number
    assert moved(own, 0.5) == pytest.approx(expected(NORMS, 0.5), rel=1e-6)
    dist.destroy_process_group()


@pytest.mark.dist
def test_the_batch_is_that_of_all_processes():
    run_processes(work)
