import pytest
import torch

from hybridcls.distributed import RowShard


@pytest.mark.parametrize('processes', [1, 2, 3, 4, 7])
@pytest.mark.parametrize('total', [1, 5, 8, 12])
def test_rows_are_cut_as_torch_chunk_cuts_them(total, processes):
    shards = [RowShard.cut(total, rank, processes) for rank in range(processes)]
    chunks = torch.arange(total).chunk(processes)
    for rank, shard in enumerate(shards):
        rows = list(range(shard.first, shard.first + shard.size))
        assert rows == (chunks[rank].tolist() if rank < len(chunks) else [])
        assert shard.total == total


def test_alone():
    shard = RowShard.of_this_process(5)
    assert shard.is_whole
    assert shard.of_all_processes() == [shard]
