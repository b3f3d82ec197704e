"""A picture of gain against cost."""

import io

from ablation_results import METRICS, made_effects
from PIL import Image

from hybridcls.apis.ablation import draw_gain_and_cost


def test_it_is_drawn_with_arms_that_failed_and_without_any():
    drawn = Image.open(io.BytesIO(draw_gain_and_cost(made_effects(), METRICS, 'made', 0.95))).convert('L')
    empty = Image.open(io.BytesIO(draw_gain_and_cost([], METRICS, 'made', 0.95))).convert('L')
    assert drawn.size == empty.size
    assert drawn.tobytes() != empty.tobytes()
