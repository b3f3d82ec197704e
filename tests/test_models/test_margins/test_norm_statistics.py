"""The running statistics of AdaFace's norms, in place, against torch's mean and unbiased standard deviation."""

import pytest
import torch
import torch.distributed as dist
from processes import run_processes

from hybridcls.models.margins.norm_statistics import update_norm_statistics

NORMS = torch.tensor([10.0, 12.0, 19.0, 31.0, 14.0])


def test_statistics_move_in_place():
    mean, std = torch.tensor(20.0), torch.tensor(100.0)
    update_norm_statistics(NORMS, mean, std, t_alpha=0.25)
    torch.testing.assert_close(mean, 0.25 * NORMS.mean() + 0.75 * 20)
    torch.testing.assert_close(std, 0.25 * NORMS.std() + 0.75 * 100)


def work(rank, folder):
    dist.init_process_group('gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    mean, std = torch.tensor(20.0), torch.tensor(100.0)
    update_norm_statistics(NORMS[:1] if rank == 0 else NORMS[1:], mean, std, t_alpha=0.25)
    torch.save((mean, std), f'{folder}/{rank}.pt')
    dist.destroy_process_group()


@pytest.mark.dist
def test_two_processes_have_the_statistics_of_all_norms(tmp_path):
    mean, std = torch.tensor(20.0), torch.tensor(100.0)
    update_norm_statistics(NORMS, mean, std, t_alpha=0.25)
    run_processes(work, str(tmp_path))
    first, second = (torch.load(tmp_path / f'{rank}.pt') for rank in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(first, (mean, std))
