"""count_views: rows per sample, and the error for a remainder."""

import pytest

from hybridcls.structures import count_views


def test_views():
    assert count_views('head', 6, 2) == 3
    assert count_views('head', 2, 2) == 1


@pytest.mark.parametrize(('rows', 'samples'), [(5, 2), (0, 2), (2, 0), (1, 2)])
def test_rows_that_are_not_a_multiple_are_errors(rows, samples):
    with pytest.raises(
        ValueError, match=f'head: expected a multiple of {samples} embeddings for {samples} samples, got {rows}'
    ):
        count_views('head', rows, samples)
