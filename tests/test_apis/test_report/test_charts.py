"""Charts are SVG that says what it is."""

import re

import numpy as np
from html_pages import read_page

from hybridcls.apis.report.charts import curves_chart, histogram_chart, reliability_chart


def test_charts_are_images_with_a_name():
    rows = dict(images=[3, 1], confidence=[0.4, 0.9], right=[0.5, 1.0], low=[0.1, 0.2], high=[0.9, 1.0])
    for chart in (
        curves_chart({'a': ([1, 2], [3, 4]), 'b': ([1], [2])}, 'x', 'y', 'Two <lines> of "x"'),
        histogram_chart({'one': np.zeros(3), 'two': np.zeros(2)}, 'x', 'All equal'),
        reliability_chart(rows, 'Reliability'),
    ):
        assert 'role="img" aria-label="' in chart
        assert 'currentColor' in chart
        assert 'var(--c1, #0072b2)' in chart  # a dark page has another
        assert not re.search(r'(fill|stroke)="var', chart)  # an attribute takes no variable
        read_page(chart)


def test_the_same_chart_twice_is_the_same_text():
    draw = lambda: histogram_chart({'one': np.arange(9.0)}, 'x', 'Nine')  # noqa: E731
    assert draw() == draw()


def test_the_axis_of_updates_has_whole_numbers():
    chart = curves_chart({'loss': ([1, 2, 3], [3, 4, 5])}, 'updates', 'loss, nats', 'Short')
    assert not re.findall(r'>\d\.5</text>', chart[: chart.index('updates')])
