import importlib

import pytest
import torch

from hybridcls.functional.metrics.nearest_neighbours import nearest_neighbours, vote_ranks

module = importlib.import_module('hybridcls.functional.metrics.nearest_neighbours')  # the package shows the function


def all_pairs(queries, bank):
    queries, bank = queries.double(), bank.double()
    return (queries / queries.norm(dim=1, keepdim=True)) @ (bank / bank.norm(dim=1, keepdim=True)).T


@pytest.mark.parametrize('blocks', [None, (7, 70), (1, 5), (64, 6400)])
@pytest.mark.parametrize('k', [1, 5, 60])
def test_streaming_finds_what_the_full_matrix_holds(monkeypatch, blocks, k):
    if blocks:
        monkeypatch.setattr(module, '_MOST_QUERIES', blocks[0])
        monkeypatch.setattr(module, '_BLOCK_NUMBERS', blocks[1])
    generator = torch.Generator().manual_seed(0)
    queries, bank = torch.randn(33, 6, generator=generator), torch.randn(60, 6, generator=generator)
    similarity, index = nearest_neighbours(queries, bank, k)
    expected = all_pairs(queries, bank).sort(dim=1, descending=True)
    torch.testing.assert_close(similarity, expected.values[:, :k].float())
    torch.testing.assert_close(index, expected.indices[:, :k])


@pytest.mark.parametrize('queries_a_block', [1, 4, 1024])
def test_without_a_bank_no_row_is_its_own_neighbour(monkeypatch, queries_a_block):
    monkeypatch.setattr(module, '_MOST_QUERIES', queries_a_block)
    monkeypatch.setattr(module, '_BLOCK_NUMBERS', 48)
    rows = torch.randn(17, 4, generator=torch.Generator().manual_seed(1))
    similarity, index = nearest_neighbours(rows, None, k=16)
    expected = all_pairs(rows, rows).fill_diagonal_(-2).sort(dim=1, descending=True)
    torch.testing.assert_close(index, expected.indices[:, :16])
    torch.testing.assert_close(similarity, expected.values[:, :16].float())


@pytest.mark.parametrize('k', [20, 400])
def test_right_angles_are_ties_in_blocks_of_any_size(k):
    generator = torch.Generator().manual_seed(3)
    queries, bank = (torch.randint(-1, 2, (size, 16), generator=generator).float() for size in (9, 400))
    bank[0] = queries[0] = 1.0
    bank, queries = bank[bank.any(1)], queries[queries.any(1)]
    k = min(k, len(bank))
    products = (queries @ bank.T).double()  # integers, exact
    cosines = products.sign() * products**2 / bank.square().sum(1) / queries.square().sum(1, keepdim=True)
    expected = cosines.float().argsort(dim=1, descending=True, stable=True)[:, :k]
    torch.testing.assert_close(nearest_neighbours(queries, bank, k)[1], expected)
    alone = torch.cat([nearest_neighbours(query, bank, k)[1] for query in queries.split(1)])
    torch.testing.assert_close(alone, expected)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_half_precision_is_computed_in_float32(dtype):
    rows = torch.randn(9, 8, generator=torch.Generator().manual_seed(2)).to(dtype) * 100
    similarity, _ = nearest_neighbours(rows, rows, k=3)
    assert similarity.dtype == torch.float32
    torch.testing.assert_close(similarity, all_pairs(rows, rows).topk(3).values.float())


def test_a_row_without_direction_is_similar_to_no_row():
    similarity, _ = nearest_neighbours(torch.zeros(1, 3), torch.eye(3), k=3)
    assert similarity.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ('bank', 'k', 'says'),
    [
        (torch.ones(3, 5), 1, 'are not'),
        (torch.ones(3, 4), 4, r'expected k in \[1, 3\], the number of candidates, got 4'),
        (None, 2, r'\[1, 1\]'),
        (torch.ones(3, 4), 0, r'expected k in .* got 0'),
    ],
)
def test_what_does_not_fit_is_answered(bank, k, says):
    with pytest.raises(ValueError, match=says):
        nearest_neighbours(torch.ones(2, 4), bank, k)


def ranked(queries, bank, k, own=None):
    """Positions and similarities by a stable sort of what float64 rounds to float32."""
    units = [rows.double() / rows.double().norm(dim=1, keepdim=True).clamp(min=1e-12) for rows in (queries, bank)]
    similarity = (units[0] @ units[1].T).float().nan_to_num(nan=-torch.inf)
    if own is not None:
        similarity[torch.arange(len(queries)), own] = torch.nan  # sorts last of all
    order = torch.stack(
        [
            torch.tensor(sorted(range(len(bank)), key=lambda at: (bool(row[at].isnan()), -float(row[at]), at))[:k])
            for row in similarity
        ]
    )
    return similarity.gather(1, order), order


@pytest.mark.parametrize('what', ['duplicates', 'all equal', 'not finite', 'none finite', 'long', 'collapsed'])
@pytest.mark.parametrize('among_themselves', [False, True])
def test_ties_and_what_has_no_direction_are_in_the_order_of_the_bank(what, among_themselves):
    generator = torch.Generator().manual_seed(5)
    bank = torch.randn(300, 8, generator=generator)
    queries = torch.randn(20, 8, generator=generator)
    if what == 'duplicates':
        bank = bank[torch.randint(0, 30, (300,), generator=generator)]
    elif what == 'all equal':
        bank = queries = torch.ones(300, 8)
    elif what == 'not finite':
        bank[::3, 2], bank[1, 0], queries[3, 1], bank[5] = torch.nan, torch.inf, torch.nan, 0
    elif what == 'none finite':
        bank[:] = torch.nan
    elif what == 'long':  # the squares overflow float32
        bank *= 1e25
    elif what == 'collapsed':
        bank = queries = torch.ones(300, 8) + 1e-6 * bank
    if among_themselves:
        queries = bank
    similarity, index = nearest_neighbours(queries, None if among_themselves else bank, k=7)
    expected = ranked(queries, bank, 7, torch.arange(300) if among_themselves else None)
    torch.testing.assert_close(index, expected[1])
    torch.testing.assert_close(similarity, expected[0], atol=0, rtol=0)


def test_other_candidates_give_the_same_answer_on_ties():
    generator = torch.Generator().manual_seed(6)
    bank = torch.randn(40, 8, generator=generator)[torch.randint(0, 40, (400,), generator=generator)]
    queries = torch.randn(20, 8, generator=generator)

    def candidates(units, count):  # of ties it keeps any, as faiss does
        similarity = units @ (bank / bank.norm(dim=1, keepdim=True)).flip(0).T
        found, index = similarity.topk(count)
        return found, len(bank) - 1 - index

    ours = nearest_neighbours(queries, bank, k=9)
    theirs = nearest_neighbours(queries, bank, k=9, candidates=candidates)
    assert torch.equal(ours[1], theirs[1])
    assert torch.equal(ours[0], theirs[0])


@pytest.mark.gpu
@pytest.mark.parametrize('among_themselves', [False, True])
def test_a_gpu_answers_as_a_cpu_whatever_tf32_is_set_to(monkeypatch, among_themselves):
    monkeypatch.setattr(torch.backends.cuda.matmul, 'allow_tf32', True)
    generator = torch.Generator().manual_seed(7)
    bank = torch.randn(2000, 32, generator=generator)[torch.randint(0, 2000, (5000,), generator=generator)]
    queries = bank if among_themselves else torch.randn(300, 32, generator=generator)
    where = None if among_themselves else bank
    expected = nearest_neighbours(queries, where, k=10)
    for device, place in (('cuda', 'cpu'), ('cuda', 'cuda')):
        moved = None if where is None else where.to(place)
        found = nearest_neighbours(queries.to(place), moved, k=10, device=torch.device(device))
        assert torch.equal(found[1], expected[1])
        assert torch.equal(found[0], expected[0])


def test_ranks_by_counting_the_votes_of_every_class():
    generator = torch.Generator().manual_seed(3)
    labels_of_neighbours = torch.randint(0, 6, (400, 9), generator=generator)
    weights = torch.rand(400, 9, generator=generator)
    weights[200:] = 1.0  # ties
    labels = torch.randint(0, 6, (400,), generator=generator)
    ranks = vote_ranks(labels_of_neighbours, weights, labels)
    for row, own in enumerate(labels.tolist()):
        votes = {}
        for label, weight in zip(labels_of_neighbours[row].tolist(), weights[row].tolist(), strict=True):
            votes[label] = votes.get(label, 0) + weight
        order = sorted(votes, key=lambda label: (-round(votes[label], 5), label))
        assert ranks[row] == (order.index(own) if own in order else torch.iinfo(torch.int64).max)


def test_a_class_number_may_be_huge():
    assert vote_ranks(torch.tensor([[10**12, 3]]), torch.tensor([[2.0, 1.0]]), torch.tensor([10**12])).item() == 0
