"""The picture of a training: which panels there are, and what values do that are no numbers."""

import io
import math

import numpy as np
import pytest
from matplotlib import image

from hybridcls.visualization.learning_curves import _running_mean, draw_learning_curves


def size_of(picture):
    height, width = image.imread(io.BytesIO(picture)).shape[:2]
    return height, width


def test_a_panel_for_each_kind_that_is_there():
    curve = ([1.0, 2.0], [3.0, 2.0])
    one, width = size_of(draw_learning_curves({'train': curve}, {}))
    assert size_of(draw_learning_curves({'train': curve}, {'val top1': curve}, curve)) == (3 * one, width)
    assert size_of(draw_learning_curves({}, {'val top1': curve}, ([], []))) == (one, width)


@pytest.mark.parametrize('values', [[math.nan] * 200, [math.inf, 1.0, math.nan], []])
def test_values_that_are_no_numbers_leave_gaps(values):
    positions = list(range(len(values)))
    assert draw_learning_curves({'train': (positions, values)}, {'val': (positions, values)})[1:4] == b'PNG'


def test_the_running_mean_sees_no_future():
    values = np.array([1.0, 3.0, math.nan, 5.0, 7.0])
    np.testing.assert_allclose(_running_mean(values.copy(), 2), [1.0, 2.0, 3.0, 5.0, 6.0])
