"""Charts are SVG that says what it is."""

import numpy as np
from html_pages import read_page

from hybridcls.apis.report.charts import confusion_chart, curves_chart, histogram_chart


def test_charts_are_images_with_a_name():
    for chart in (
        curves_chart({'a': ([1, 2], [3, 4]), 'b': ([1], [2])}, 'x', 'y', 'Two lines'),
        histogram_chart({'one': np.zeros(3), 'two': np.zeros(2)}, 'x', 'All equal'),
        confusion_chart(np.eye(3), ['a', 'b' * 40, 'c<'], 'Matrix'),
    ):
        assert 'role="img" aria-label="' in chart
        assert 'currentColor' in chart
        read_page(chart)
