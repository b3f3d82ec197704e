"""Bipartite soft matching of tokens."""

import math

import pytest
import torch
from fidelity_checks import assert_faithful

from hybridcls.functional.tokens.token_matching import (
    match_tokens,
    merge_tokens,
    merged_index_after,
    proportional_bias,
    unmerge_tokens,
)


def by_hand(metric, tokens, sizes, r, protected, unmerged_order):
    """The paper's section 3.2 in plain Python: groups of old tokens, their weighted means, and the new sizes."""
    numbers = range(protected, len(tokens))
    set_a, set_b = [n for n in numbers if n % 2 == 0], [n for n in numbers if n % 2 == 1]

    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)

    edges = []
    for a in set_a:
        partner = max(set_b, key=lambda b: cosine(metric[a], metric[b]))
        edges.append((cosine(metric[a], metric[partner]), a, partner))
    edges.sort(reverse=True)
    joined = {a: b for _, a, b in edges[:r]}
    left = [a for a in set_a if a not in joined]
    if unmerged_order == 'official' and not protected:
        left = [a for _, a, _ in edges[r:]]
    stay = [*range(protected), *left, *set_b]
    groups = [[n, *(a for a, b in joined.items() if b == n)] for n in stay]
    new_sizes = [sum(sizes[n] for n in group) for group in groups]
    means = [
        [sum(sizes[n] * tokens[n][c] for n in group) / size for c in range(len(tokens[0]))]
        for group, size in zip(groups, new_sizes, strict=True)
    ]
    return groups, means, new_sizes


@pytest.mark.parametrize('unmerged_order', ['official', 'position'])
@pytest.mark.parametrize('protected', [0, 1, 2, 5])
@pytest.mark.parametrize(('length', 'r'), [(12, 1), (13, 3), (20, 7)])
def test_equals_the_paper_in_plain_python(length, r, protected, unmerged_order):
    generator = torch.Generator().manual_seed(length + protected)
    metric, tokens = (torch.randn(3, length, width, generator=generator, dtype=torch.float64) for width in (4, 6))
    size = torch.randint(1, 5, (3, length), generator=generator).float()
    plan = match_tokens(metric, r, protected, unmerged_order)
    merged, new_size = merge_tokens(tokens, plan, size)
    positions = merged_index_after(plan)
    for image in range(3):
        groups, means, sizes = by_hand(
            metric[image].tolist(), tokens[image].tolist(), size[image].tolist(), r, protected, unmerged_order
        )
        torch.testing.assert_close(merged[image], torch.tensor(means, dtype=torch.float64), rtol=1e-6, atol=1e-6)
        assert new_size[image].tolist() == sizes
        assert [[n for n in range(length) if positions[image, n] == place] for place in range(length - r)] == [
            sorted(group) for group in groups
        ]


def test_official_numbers_of_three_merges():
    assert_faithful('Merges of tokens')


@pytest.mark.parametrize('protected', [0, 1, 2, 3])
@pytest.mark.parametrize('length', [2, 3, 8, 9])
def test_no_more_than_half_merges_and_the_first_stay(length, protected):
    metric = torch.randn(2, length + protected, 3, generator=torch.Generator().manual_seed(0))
    plan = match_tokens(metric, 10**6, protected)
    assert plan.merged.shape == (2, length // 2)
    assert plan.kept[:, :protected].tolist() == [list(range(protected))] * 2
    assert (plan.merged >= protected).all()
    assert (plan.target >= protected).all()


def test_no_tokens_and_nothing_to_merge():
    for metric, r in ((torch.zeros(2, 1, 3), 5), (torch.zeros(2, 4, 3), 0), (torch.zeros(0, 6, 3), 2)):
        plan = match_tokens(metric, r, protected=1)
        merged, size = merge_tokens(metric, plan)
        assert merged.shape[1] == metric.shape[1] - min(r, (metric.shape[1] - 1) // 2)
        assert size.shape == merged.shape[:2]


@pytest.mark.parametrize('numbers', [(-1, 0), (1, -1)])
def test_negative_numbers_are_answered(numbers):
    with pytest.raises(ValueError, match='0 or more'):
        match_tokens(torch.ones(1, 4, 2), *numbers)


def test_an_unknown_order_is_answered():
    with pytest.raises(ValueError, match=r"expected unmerged_order to be one of .*, got 'score'"):
        match_tokens(torch.ones(1, 4, 2), 1, unmerged_order='score')


def test_several_may_join_the_same():
    metric = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [1.0, 0.2], [-1.0, 0.0]]])
    tokens = torch.tensor([[[1.0], [3.0], [8.0], [100.0], [60.0], [200.0]]])
    merged, size = merge_tokens(tokens, match_tokens(metric, 3))
    assert merged.tolist() == [[[18.0], [100.0], [200.0]]]
    assert size.tolist() == [[4.0, 1.0, 1.0]]


def test_merging_twice_is_the_mean_over_all_patches():
    """Sizes make it so: means of means would weigh the patches of small groups more."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(4, 21, 5, generator=generator, dtype=torch.float64)
    first = match_tokens(tokens, 8, 1)
    once, size = merge_tokens(tokens, first)
    second = match_tokens(once, 5, 1)
    twice, size = merge_tokens(once, second, size)
    positions = merged_index_after(second).gather(1, merged_index_after(first))
    for image in range(4):
        for place in range(8):
            members = positions[image] == place
            assert size[image, place] == members.sum()
            torch.testing.assert_close(twice[image, place], tokens[image, members].mean(0), rtol=1e-6, atol=1e-6)
    back = unmerge_tokens(twice, positions)
    assert back.shape == tokens.shape
    torch.testing.assert_close(back[2, 5], twice[2, positions[2, 5]], rtol=0, atol=0)
    torch.testing.assert_close(back.mean(1), tokens.mean(1), rtol=1e-6, atol=1e-6)


def test_attention_with_the_bias_is_attention_over_the_copies():
    generator = torch.Generator().manual_seed(2)
    keys, values, query = (torch.randn(1, 3, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    size = torch.tensor([[1.0, 4.0, 2.0]])
    copies = torch.tensor([0, 1, 1, 1, 1, 2, 2])
    expected = (query @ keys[:, copies].transpose(1, 2)).softmax(-1) @ values[:, copies]
    bias = proportional_bias(size.double(), torch.float64)[:, 0]
    torch.testing.assert_close((query @ keys.transpose(1, 2) + bias).softmax(-1) @ values, expected)


def test_gradients_are_the_shares():
    tokens = torch.randn(2, 7, 3, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(3))
    size = torch.tensor([[1.0, 2.0, 3.0, 1.0, 1.0, 2.0, 5.0]] * 2)
    plan = match_tokens(tokens.detach(), 3, 1)
    assert torch.autograd.gradcheck(lambda rows: merge_tokens(rows, plan, size)[0], tokens)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_compared_in_float32(dtype):
    metric = torch.randn(2, 30, 16, generator=torch.Generator().manual_seed(4)).to(dtype) * 100
    with torch.autocast('cpu', dtype=torch.bfloat16):
        plan = match_tokens(metric, 6, 1)
        merged, size = merge_tokens(metric, plan)
    for given, expected in zip(plan, match_tokens(metric.double(), 6, 1), strict=True):
        assert torch.equal(given, expected)
    assert merged.dtype == dtype
    assert size.dtype == torch.float32


def test_tokens_without_direction_and_equal_tokens_are_no_trouble():
    plan = match_tokens(torch.zeros(1, 9, 4), 4, 1)
    assert sorted(plan.merged[0].tolist()) == [2, 4, 6, 8]
    merged, size = merge_tokens(torch.ones(1, 9, 4), plan)
    assert torch.equal(merged, torch.ones(1, 5, 4))
    assert size.sum() == 9


@pytest.mark.parametrize(
    ('dtype', 'of_sizes'),
    [(torch.float64, torch.float64), (torch.float32, torch.float32), (torch.bfloat16, torch.float32)],
)
def test_sizes_are_as_exact_as_the_tokens(dtype, of_sizes):
    """A third is exact to float64 only if the sizes are: three tokens become one in two merges."""
    tokens = torch.tensor([[[1.0], [0.0], [1.0], [0.0]]], dtype=dtype)
    metric = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]])
    _, size = merge_tokens(tokens, match_tokens(metric, r=2))
    assert (size.dtype, size.tolist()) == (of_sizes, [[2, 2]])
    merged, size = merge_tokens(tokens[:, :3], match_tokens(metric[:, :3], r=1))
    merged, size = merge_tokens(merged, match_tokens(metric[:, :2], r=1), size)
    assert size.tolist() == [[3]]
    assert merged.item() == pytest.approx(2 / 3, rel=2 * torch.finfo(dtype).eps)
