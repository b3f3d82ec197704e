import math

import pytest
import torch
import torch.distributed as dist
from torch import nn

from hybridcls.distributed import RowShard
from hybridcls.distributed.layouts import Shards, is_row_shard, to_layout_of
from hybridcls.engine.optim import ComposedOptimWrapper


@pytest.fixture
def group(tmp_path):
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/init', rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def parameters():
    """A plain one, and two of three rows of another."""
    plain, rows = nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(2, 3))
    rows.row_shard = RowShard(first=1, size=2, total=3)
    return [plain, rows]


@pytest.mark.parametrize('norm_type', [2.0, 1.0, math.inf])
def test_norm_of_copies_and_rows_is_one(group, norm_type):
    tensors = [torch.tensor([1.0, -4.0]), torch.arange(6.0).view(2, 3)]
    expected = torch.linalg.vector_norm(torch.cat([tensor.flatten() for tensor in tensors]), norm_type)
    torch.testing.assert_close(Shards().norm(tensors, parameters(), norm_type), expected)
    plain = [nn.Parameter(tensor) for tensor in tensors]
    torch.testing.assert_close(Shards().norm(tensors, plain, norm_type), expected)


def test_inner_product_of_copies_and_rows(group):
    left, right = [torch.tensor([1.0, -4.0]), torch.arange(6.0).view(2, 3)], [torch.ones(2), torch.ones(2, 3)]
    assert Shards().inner(left, right, parameters()) == -3 + 15


def test_a_model_with_rows_is_known():
    model = nn.ParameterList(parameters())
    shards = Shards(model)
    assert [is_row_shard(param) for param in model] == [False, True]
    assert (shards.has_row_shards, shards.can_ascend_alone, shards.is_fsdp1) == (True, False, False)
    assert shards.accumulates_alone
    assert Shards(nn.Linear(2, 2)).can_ascend_alone


def test_a_whole_matrix_is_cut_and_rows_stay():
    _, rows = parameters()
    whole = torch.arange(9.0).view(3, 3)
    torch.testing.assert_close(to_layout_of(whole, rows), whole[1:])
    torch.testing.assert_close(to_layout_of(whole[1:], rows), whole[1:])
    with pytest.raises(ValueError, match=r'got \(4, 3\)'):
        to_layout_of(torch.zeros(4, 3), rows)


def test_an_overflow_in_rows_is_told_to_all_processes():
    optimizer = torch.optim.SGD(parameters(), lr=0.1)
    assert type(ComposedOptimWrapper(optimizer, amp='float16').loss_scaler).__name__ == 'ShardedGradScaler'
    plain = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    assert type(ComposedOptimWrapper(plain, amp='float16').loss_scaler).__name__ == 'GradScaler'


def test_norms_of_half_precision_are_taken_in_float32():
    parts = [torch.full((1000,), 100.0, dtype=torch.float16), torch.full((7,), 3.0, dtype=torch.bfloat16)]
    norm = Shards().norm(parts, parts)
    assert norm.dtype is torch.float32
    assert norm.item() == pytest.approx((1000 * 100.0**2 + 7 * 9.0) ** 0.5, rel=1e-3)


def test_a_process_may_hold_nothing():
    assert Shards().norm([], []) == 0
    assert Shards().norm([torch.zeros(0), torch.ones(4)], [torch.zeros(0), torch.ones(4)]) == 2
    assert Shards().inner([], [], []) == 0


def test_loaded_tensors_take_the_type_of_what_is_there():
    assert to_layout_of(torch.ones(2, dtype=torch.float64), torch.zeros(2)).dtype is torch.float32
    with pytest.raises(ValueError, match=r'expected shape \(2,\), got \(3,\)'):
        to_layout_of(torch.ones(3), torch.zeros(2))


def test_a_sparse_gradient_has_no_norm_beside_others():
    param = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(TypeError, match=r'expected dense gradients.* got a sparse one.*sparse=False'):
        Shards().norm([torch.ones(2).to_sparse()], [param])
