"""Candidates hold all that float32 cannot tell from the k nearest."""

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from hybridcls.functional.metrics import neighbour_candidates as module
from hybridcls.functional.metrics.neighbour_candidates import find_candidates, rounding_error

CPU = torch.device('cpu')


def rows(number, width, seed):
    return torch.randn(number, width, generator=torch.Generator().manual_seed(seed))


def cosines(queries, bank):
    units = [part / part.norm(dim=1, keepdim=True) for part in (queries.double(), bank.double())]
    return units[0] @ units[1].T


@pytest.mark.parametrize('way', ['screens', 'topk'])
@pytest.mark.parametrize('among_themselves', [False, True])
def test_the_room_most_similar_ones_are_found(monkeypatch, way, among_themselves):
    monkeypatch.setattr(module, '_QUERIES_OF_A_SCREEN', 16)
    monkeypatch.setattr(module, '_BANK_ROWS', 64)
    monkeypatch.setattr(module, '_BLOCK_NUMBERS', 2000)
    bank = rows(500, 12, 0)
    queries = bank[40:90] if among_themselves else rows(50, 12, 1)
    own = torch.arange(40, 90) if among_themselves else None
    if way == 'topk':
        found, index = module._by_topk(module._l2_normalized(queries, CPU), own, bank, 20, CPU)
    else:
        found, index = find_candidates(queries, own, bank, 20, 20, CPU)
    expected = cosines(queries, bank)
    if among_themselves:
        expected[torch.arange(50), own] = -2
    best = expected.topk(20)
    order = found.argsort(dim=1, descending=True)
    torch.testing.assert_close(found.gather(1, order).double(), best.values, atol=1e-6, rtol=0)
    torch.testing.assert_close(index.gather(1, order), best.indices)


@pytest.mark.parametrize('falling', [False, True])
def test_a_bank_in_the_order_of_similarity_fits_into_the_room(monkeypatch, falling):
    monkeypatch.setattr(module, '_BANK_ROWS', 64)
    angle = torch.linspace(0, 3, 3000)
    bank = torch.stack([angle.cos(), angle.sin()], 1)
    bank = bank if falling else bank.flip(0)
    _, index = find_candidates(torch.tensor([[1.0, 0.0]]), None, bank, 40, 8, CPU)
    nearest = range(8) if falling else range(2992, 3000)
    assert {*nearest} <= {*index[0].tolist()}


def test_the_bound_holds_for_products_in_float32():
    queries, bank = rows(64, 300, 2), rows(2000, 300, 3)
    queries[:32] = queries[:32].abs()  # all products of one sign: errors do not cancel
    bank[:1000] = bank[:1000].abs()
    products = module._l2_normalized(queries, CPU).numpy() @ module._l2_normalized(bank, CPU).numpy().T
    error = np.abs(products - cosines(queries, bank).numpy()).max()
    assert 0 < error < rounding_error(300)


def test_the_threads_of_torch_are_those_of_the_product(monkeypatch):
    seen = []
    meet = module._Screen.meet

    def noting(self, *arguments, **keywords):
        seen.append([one['num_threads'] for one in threadpool_info() if one['user_api'] == 'blas'])
        return meet(self, *arguments, **keywords)

    monkeypatch.setattr(module._Screen, 'meet', noting)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 1)
    before = [one['num_threads'] for one in threadpool_info() if one['user_api'] == 'blas']
    find_candidates(rows(4, 8, 0), None, rows(300, 8, 1), 20, 2, CPU)
    assert {number for numbers in seen for number in numbers} == {1}
    assert [one['num_threads'] for one in threadpool_info() if one['user_api'] == 'blas'] == before


def test_several_threads_find_the_same(monkeypatch):
    monkeypatch.setattr(module, '_QUERIES_OF_A_SCREEN', 16)
    queries, bank = rows(100, 8, 4), rows(900, 8, 5)
    expected = find_candidates(queries, None, bank, 40, 8, CPU)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 3)
    found = find_candidates(queries, None, bank, 40, 8, CPU)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.sort(dim=1).values, other.sort(dim=1).values, atol=1e-6, rtol=0)


def test_a_query_with_many_ties_does_not_make_the_others_drop_theirs(monkeypatch):
    monkeypatch.setattr(module, '_BANK_ROWS', 64)
    dropped = []
    keep = module._Screen._keep

    def noting(self, where, found, index):
        dropped.append(len(found))
        return keep(self, where, found, index)

    monkeypatch.setattr(module._Screen, '_keep', noting)
    queries, bank = rows(50, 16, 6), rows(6400, 16, 7)
    find_candidates(queries, None, bank, 40, 8, CPU)
    usual = sum(dropped)
    dropped.clear()
    queries[7] = 0  # similar by 0 to all: 64 ties a block
    find_candidates(queries, None, bank, 40, 8, CPU)
    assert usual < sum(dropped) < 2 * usual  # all 50 in each of 100 blocks are 5,000
