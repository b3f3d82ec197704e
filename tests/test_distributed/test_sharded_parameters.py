import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from hybridcls.distributed import RowShard, exclude_from_ddp, gather_whole, shard_rows, sharded_parameters
from hybridcls.distributed.sharded_parameters import draw_rows

WHOLE = torch.arange(3000.0).view(1500, 2)


def holder(shard):
    """A model whose part holds the rows of one of several processes; no process is needed for that."""
    model = nn.Module()
    model.part = nn.Module()
    model.part.class_weights = nn.Parameter(WHOLE[shard.first : shard.first + shard.size].clone())
    shard_rows(model.part, 'class_weights', shard)
    return model


@pytest.fixture(params=range(3))
def shard(request):
    return RowShard.cut(1500, request.param, 3)


def test_any_number_of_processes_draws_the_same_matrix():
    matrices = []
    for processes in (1, 2, 3, 1600):
        torch.manual_seed(0)
        state = torch.get_rng_state()
        parts = []
        for rank in range(min(processes, 1500)):
            torch.set_rng_state(state)
            shard = RowShard.cut(1500, rank, processes)
            if processes < 1000 or rank % 500 == 0:
                part = torch.empty(shard.size, 2)
                draw_rows(part, shard, 0.5)
                parts.append((shard, part))
        matrices.append(parts)
    whole = matrices[0][0][1]
    assert whole.std().item() == pytest.approx(0.5, rel=0.05)
    assert len(whole.unique()) > 2900
    for shard, part in [entry for parts in matrices for entry in parts]:
        torch.testing.assert_close(part, whole[shard.first : shard.first + shard.size], rtol=0, atol=0)


def test_each_process_takes_its_rows_of_a_whole_matrix(shard):
    model = holder(shard)
    assert model.part.class_weights.row_shard == shard
    model.load_state_dict({'part.class_weights': -WHOLE})
    torch.testing.assert_close(model.part.class_weights.detach(), -WHOLE[shard.first : shard.first + shard.size])
    with pytest.raises(
        RuntimeError,
        match=r'part.class_weights: copying a param with shape \(500, 2\) from checkpoint, the '
        r'shape in current model is \(1500, 2\), spread over',
    ):
        model.load_state_dict({'part.class_weights': WHOLE[:500]})  # as many as one process has


def test_a_gathered_matrix_is_shown(shard):
    model = copy.deepcopy(holder(shard))  # an EMAHook copies the model
    model.part.gathered_rows = {'class_weights': WHOLE}
    assert model.state_dict()['part.class_weights'] is WHOLE


def test_ddp_is_told(shard):
    model = holder(shard)
    exclude_from_ddp(model)
    assert model._ddp_params_and_buffers_to_ignore == ['part.class_weights']
    assert [entry.name for entry in sharded_parameters(model)] == ['part.class_weights']
    plain = nn.Linear(2, 2)
    exclude_from_ddp(plain)
    assert not hasattr(plain, '_ddp_params_and_buffers_to_ignore')


def test_one_process_has_nothing_to_hide(tmp_path):
    model = holder(RowShard(0, 1500, 1500))
    for _ in range(2):  # without a process group, and as the only process of one
        assert list(sharded_parameters(model)) == []
        assert type(model.state_dict()['part.class_weights']) is torch.Tensor
        torch.testing.assert_close(gather_whole(model.part.class_weights, RowShard(0, 1500, 1500)), WHOLE)
        if not dist.is_initialized():
            dist.init_process_group('gloo', init_method=f'file://{tmp_path}/init', rank=0, world_size=1)
    dist.destroy_process_group()
