import pytest
import torch
import torch.distributed as dist
from processes import run_processes

from hybridcls.distributed.gather import gather_rows, num_processes

ROWS = torch.arange(15, dtype=torch.float64).reshape(5, 3) / 7
COUNTS = [2, 3]  # rows of the two processes


def loss_of(everywhere, own, start):
    """A share of a loss in which every row meets every other."""
    return ((own @ everywhere.t()) * torch.arange(start, start + len(own), dtype=own.dtype)[:, None]).sin().sum()


def work(rank, folder):
    dist.init_process_group('gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    own = ROWS.split(COUNTS)[rank].clone().requires_grad_()
    labels = torch.arange(COUNTS[rank]) + 10 * rank
    (everywhere, labels_everywhere), start = gather_rows(own, labels)
    share = loss_of(everywhere, own, start)
    share.backward()
    message = ''
    try:
        gather_rows(torch.ones(1, 2 + rank))
    except ValueError as error:
        message = str(error)
    result = dict(
        everywhere=everywhere.detach(),
        labels=labels_everywhere,
        start=start,
        share=share.detach(),
        grad=own.grad,
        world=num_processes(),
        message=message,
    )
    torch.save(result, f'{folder}/{rank}.pt')
    dist.destroy_process_group()


@pytest.mark.dist
def test_two_processes_with_unequal_rows(tmp_path):
    run_processes(work, tmp_path)
    results = [torch.load(tmp_path / f'{rank}.pt') for rank in range(2)]

    rows = ROWS.clone().requires_grad_()
    whole = loss_of(rows, rows, 0)
    whole.backward()
    for result, start in zip(results, [0, 2], strict=True):
        assert result['world'] == 2
        assert result['start'] == start
        assert result['labels'].tolist() == [0, 1, 10, 11, 12]
        torch.testing.assert_close(result['everywhere'], ROWS, rtol=0, atol=0)
        assert 'ranks 0 to 1' in result['message']
    torch.testing.assert_close(results[0]['share'] + results[1]['share'], whole.detach())
    torch.testing.assert_close(torch.cat([result['grad'] for result in results]), rows.grad)


def test_one_process_gets_its_own_tensors():
    rows = torch.ones(2, 3, requires_grad=True)
    (everywhere,), start = gather_rows(rows)
    assert everywhere is rows
    assert start == 0
    assert num_processes() == 1


def test_rows_that_do_not_belong_together():
    with pytest.raises(ValueError, match=r'tensors of \[2, 3\] rows'):
        gather_rows(torch.ones(2, 3), torch.ones(3))
