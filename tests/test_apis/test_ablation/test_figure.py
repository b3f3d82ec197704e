"""A picture of gain against cost."""

import io

from ablation_results import METRICS, made_effects
from PIL import Image

from hybridcls.apis.ablation import draw_gain_and_cost
from hybridcls.apis.ablation.figure import _together


def test_it_is_drawn_with_arms_that_failed_and_without_any():
    drawn = Image.open(io.BytesIO(draw_gain_and_cost(made_effects(), METRICS, 'made', 0.95))).convert('L')
    empty = Image.open(io.BytesIO(draw_gain_and_cost([], METRICS, 'made', 0.95))).convert('L')
    assert drawn.size == empty.size
    assert drawn.tobytes() != empty.tobytes()


def test_names_that_would_lie_on_each_other_stand_below_each_other():
    points = [(100, 50), (400, 52), (130, 58), (100, 90)]
    assert _together(points) == [[0, 2], [1], [3]]
    assert _together([]) == []
