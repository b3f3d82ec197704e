"""Products in bfloat16 hide no pair that float32 would show."""

import numpy as np
import pytest
import torch

from hybridcls.functional.metrics import neighbour_candidates, rough_similarities
from hybridcls.functional.metrics.nearest_neighbours import nearest_neighbours
from hybridcls.functional.metrics.neighbour_candidates import rounding_error
from hybridcls.functional.metrics.rough_similarities import RoughSimilarities, bits_of_floors, rough_products_pay


def units(number, width, seed, positive=False):
    rows = torch.randn(number, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows.abs() if positive else rows)


@pytest.fixture
def on_any_cpu(monkeypatch):
    """Use rough products whatever the CPU, in small blocks; return how many blocks and pairs they decided."""
    counts = dict(blocks=0, enough=0)
    meet_roughly = neighbour_candidates._Screen._meet_roughly

    def counting(*arguments):
        enough = meet_roughly(*arguments)
        counts['blocks'] += 1
        counts['enough'] += enough
        return enough

    monkeypatch.setattr(neighbour_candidates, 'rough_products_pay', lambda queries: True)
    monkeypatch.setattr(neighbour_candidates._Screen, '_meet_roughly', counting)
    monkeypatch.setattr(neighbour_candidates, '_QUERIES_OF_A_SCREEN', 16)
    monkeypatch.setattr(neighbour_candidates, '_BANK_ROWS', 64)
    return counts


@pytest.mark.parametrize('width', [3, 64, 300])
@pytest.mark.parametrize('positive', [False, True])
def test_the_error_is_bounded_and_no_more_than_bfloat16_can_make_it(width, positive):
    queries, bank = units(40, width, 0, positive), units(500, width, 1, positive)
    queries[0] = torch.nn.functional.normalize(torch.full((width,), 1.003), dim=0)  # all rounded the same way
    bank[0] = queries[0]
    bits, error = RoughSimilarities(queries, rounding_error(width)).meet(bank)
    rough = torch.from_numpy(bits.copy()).view(torch.bfloat16).double()
    exact = queries.double() @ bank.double().T
    last = exact.abs() * 2.0**-8  # the result's own rounding
    assert ((rough - exact).abs() <= torch.from_numpy(error)[:, None] + last).all()
    assert error.max() < 2.1 * 2.0**-8
    # Without the bound some would be hidden.
    assert ((rough - exact).abs() > last).any()


def test_bits_compare_as_numbers_do():
    every = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.bfloat16)
    numbers = every[every.isfinite()]
    for floor in (2.0**-10, 0.0117, 0.25, 0.7071, 1.0, np.nan):
        bits = bits_of_floors(np.float32([floor]))
        passed = numbers.view(torch.int16).numpy() >= bits
        assert torch.equal(torch.from_numpy(passed), numbers >= torch.tensor(floor).bfloat16())
    for floor in (0.0, -0.1, -np.inf, 1e-4):
        assert bits_of_floors(np.float32([0.5, floor])) is None


@pytest.mark.parametrize('k', [1, 9])
@pytest.mark.parametrize('among_themselves', [False, True])
@pytest.mark.parametrize('what', ['random', 'classes', 'positive', 'odd'])
def test_the_answer_is_that_of_float32(on_any_cpu, monkeypatch, k, among_themselves, what):
    bank = units(3000, 48, 2, positive=what == 'positive')
    queries = units(70, 48, 3, positive=what == 'positive')
    if what == 'classes':
        averages = units(200, 48, 4)
        bank, queries = bank * 0.3 + averages[torch.arange(3000) // 15], queries * 0.3 + averages[:70]
    elif what == 'odd':
        queries[3], queries[9] = torch.nan, 1e30
        bank[100:110], bank[500], bank[600] = torch.nan, 0, torch.inf
    if among_themselves:
        queries, bank = bank[:1500], None
    found = nearest_neighbours(queries, bank, k)
    assert on_any_cpu['enough'] > 0
    monkeypatch.setattr(neighbour_candidates, 'rough_products_pay', lambda queries: False)
    expected = nearest_neighbours(queries, bank, k)
    assert torch.equal(found[1], expected[1])
    assert torch.equal(found[0], expected[0])


def test_a_neighbour_that_rounding_makes_less_similar_is_found(on_any_cpu, monkeypatch):
    monkeypatch.setattr(neighbour_candidates, '_LARGEST_SHARE', 1)
    query = torch.full((1, 64), 0.125)  # exact
    nearest = torch.zeros(64)
    nearest[:59] = 59**-0.5  # rounded down, each of them: the similarity 0.96014 becomes 0.95703
    across = torch.cat([torch.ones(32), -torch.ones(32)]) / 8
    other = 0.96 * query[0] + (1 - 0.96**2) ** 0.5 * across  # a floor of 0.96 is rounded to 0.96094
    bank = torch.cat([other[None], units(500, 64, 6), nearest[None]])
    assert nearest_neighbours(query, bank, 1)[1].item() == 501
    meet = RoughSimilarities.meet
    monkeypatch.setattr(RoughSimilarities, 'meet', lambda self, part: (meet(self, part)[0], np.zeros(1, np.float32)))
    assert nearest_neighbours(query, bank, 1)[1].item() == 0


def test_where_all_is_alike_the_blocks_are_computed_in_float32_and_seldom_tried(on_any_cpu):
    bank = units(1, 32, 7) + 1e-3 * units(6400, 32, 8)  # 100 blocks
    queries = bank[:16] + 1e-4 * units(16, 32, 9)
    found = nearest_neighbours(queries, bank, 5)
    assert (on_any_cpu['blocks'], on_any_cpu['enough']) == (7, 0)  # the pauses are 1, 2, 4, 8, 16, 32
    cosines = torch.nn.functional.normalize(queries.double()) @ torch.nn.functional.normalize(bank.double()).T
    torch.testing.assert_close(found[0], cosines.topk(5).values.float())


@pytest.mark.parametrize(
    ('flags', 'number', 'width', 'expected'),
    [
        (('avx2', 'avx512_bf16'), 4000, 256, True),
        (('amx_bf16',), 4000, 256, True),
        (('avx2', 'avx512f'), 4000, 256, False),
        (('avx512_bf16',), 20, 256, False),
        (('avx512_bf16',), 4000, 16, False),
    ],
)
def test_when_it_pays(monkeypatch, flags, number, width, expected):
    monkeypatch.setattr(rough_similarities, 'cpu_flags', lambda: flags)
    monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: True)
    assert rough_products_pay(torch.empty(number, width)) == expected
    monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: False)
    assert not rough_products_pay(torch.empty(number, width))
