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
