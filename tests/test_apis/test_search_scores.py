"""Means over the queries that have a match; the others are counted."""

import torch

from hybridcls.apis.search_scores import SearchScores


def test_parts_add_up_and_queries_without_a_match_count_apart():
    scores = SearchScores([1, 3])
    assert scores.as_dict() == dict(queries=0, without_match=0)
    scores.add(torch.tensor([[False, True, True], [True, False, False]]), torch.tensor([2, 0]))
    assert 'of 1 query with a label (1 more has no image' in str(scores)
    scores.add(torch.tensor([[True, True, False]]), torch.tensor([2]))
    expected = {'recall@1': 50.0, 'recall@3': 100.0, 'precision@r': 75.0, 'map@r': 100 * (0.25 + 1) / 2}
    assert scores.as_dict() == dict(queries=2, without_match=1) | expected


def test_none_with_a_match_is_a_sentence():
    scores = SearchScores([1], whole_class=False)
    scores.add(torch.tensor([[False]]), torch.tensor([0]))
    assert str(scores) == 'none of 1 query with a label has an image of its class in the index'
    assert scores.as_dict() == dict(queries=0, without_match=1)
