"""Learning curves: panels, best points, and non-finite values, by the artists of the figure."""

import io
import math

import numpy as np
import pytest
from matplotlib import figure, image

from hybridcls.visualization.learning_curves import Panel, _running_mean, best_point, draw_learning_curves

CURVE = ([1.0, 2.0], [3.0, 2.0])


def size_of(picture):
    height, width = image.imread(io.BytesIO(picture)).shape[:2]
    return height, width


@pytest.fixture
def drawn(monkeypatch):
    """The axes of each picture that was drawn."""
    found = []
    original = figure.Figure.subplots

    def subplots(self, *arguments, **keys):
        axes = original(self, *arguments, **keys)
        found.append(list(axes[:, 0]))
        return axes

    monkeypatch.setattr(figure.Figure, 'subplots', subplots)
    return found


def test_one_panel_for_each_kind():
    one, width = size_of(draw_learning_curves([Panel('loss', {'train': CURVE})]))
    three = [Panel('loss', {'train': CURVE}), Panel('percent', {'top1': CURVE}), Panel('rate', {'rate': CURVE})]
    assert size_of(draw_learning_curves(three)) == (3 * one, width)
    assert size_of(draw_learning_curves([Panel('loss', {}), Panel('percent', {'top1': CURVE})])) == (one, width)


def test_the_best_point_follows_the_direction(drawn):
    curves = {name: ([1, 2, 3], [3.0, 1.0, 2.0]) for name in ('top1', 'ece', 'norm')}
    draw_learning_curves([Panel('percent', curves, {'top1': 'greater', 'ece': 'less', 'norm': None})])
    ((axes,),) = drawn
    circles = [
        (*line.get_xdata(orig=False), *line.get_ydata()) for line in axes.get_lines() if line.get_marker() == 'o'
    ]
    assert circles == [(1, 3.0), (2, 1.0)]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ['top1 (best 3)', 'ece (best 1)', 'norm']


def test_more_than_ten_curves_differ_and_the_legend_is_outside(drawn):
    curves = {f'metric {number}': CURVE for number in range(25)}
    few, many = ([Panel('percent', dict(list(curves.items())[:count]))] for count in (3, 25))
    assert size_of(draw_learning_curves(few))[0] < size_of(draw_learning_curves(many))[0]
    axes = drawn[-1][0]
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.get_lines()}) == 25
    legend, panel = axes.get_legend().get_window_extent(), axes.get_window_extent()
    assert legend.x0 >= panel.x1
    assert legend.height <= axes.figure.bbox.height


def test_schedule_is_not_smoothed(drawn):
    values = [10.0 ** -(number / 50) for number in range(200)]
    for panel in (
        Panel('rate', {'rate': (range(200), values)}, is_schedule=True),
        Panel('loss', {'l': (range(200), values)}),
    ):
        draw_learning_curves([panel])
    (rate,), (loss,) = drawn
    assert [list(line.get_ydata()) for line in rate.get_lines()] == [values]
    assert rate.get_yscale() == 'log'
    assert len(loss.get_lines()) == 2  # pale, with the running mean
    assert loss.get_yscale() == 'linear'


@pytest.mark.parametrize('values', [[math.nan] * 200, [math.inf, 1.0, math.nan], []])
def test_non_finite_values_leave_gaps(values):
    curve = list(range(len(values))), values
    panels = [Panel('loss', {'train': curve}), Panel('percent', {'val': curve}, {'val': 'less'})]
    assert draw_learning_curves([*panels, Panel('rate', {'rate': curve}, is_schedule=True)])[1:4] == b'PNG'
    assert best_point(np.array([math.nan]), 'less') is None


def test_running_mean_uses_past_values_only():
    values = np.array([1.0, 3.0, math.nan, 5.0, 7.0])
    np.testing.assert_allclose(_running_mean(values.copy(), 2), [1.0, 2.0, 3.0, 5.0, 6.0])
