"""Vectors of classes and the first image of each class, by hand."""

import torch

from hybridcls.apis.class_pooling import class_sums, class_vectors, first_of_each_class
from hybridcls.functional.metrics.neighbour_order import NOT_THERE

VECTORS = torch.tensor([[3.0, 0.0], [0.0, 2.0], [0.0, 5.0], [float('nan'), 1.0], [1.0, 1.0]])
CLASSES = torch.tensor([0, 0, 1, 1, -1])


def test_sums_are_of_directions_or_weighted_by_the_norm():
    for pool, expected in (('mean', [[1, 1], [0, 1]]), ('quality', [[3, 2], [0, 5]])):
        sums = class_sums(VECTORS.split(2), CLASSES, 2, 2, pool)
        assert sums.tolist() == expected
    assert torch.equal(class_vectors(sums, torch.tensor([2, 2]), 'quality'), sums)


def test_the_cosine_with_a_mean_is_the_mean_of_the_cosines():
    draw = torch.Generator().manual_seed(0)
    rows, query = torch.randn(7, 4, generator=draw).double(), torch.randn(4, generator=draw).double()
    sums = class_sums([rows], torch.zeros(7, dtype=torch.long), 1, 4, 'mean')
    vector = class_vectors(sums, torch.tensor([7]), 'mean')[0]
    cosines = torch.nn.functional.cosine_similarity(rows, query.expand(7, 4))
    padded = torch.cat([query, torch.zeros(1)])
    torch.testing.assert_close(torch.nn.functional.cosine_similarity(padded, vector, dim=0), cosines.mean())


def test_the_first_of_each_class_in_the_order_of_the_list():
    keys = torch.tensor([[9, 8, 7, 6, 5], [9, 8, NOT_THERE, NOT_THERE, NOT_THERE]])
    best, different = first_of_each_class(keys, torch.tensor([[4, 4, 2, 4, 7], [1, 1, 3, 3, 5]]), 3)
    assert best.tolist() == [[9, 7, 5], [9, NOT_THERE, NOT_THERE]]
    assert different.tolist() == [3, 1]
