"""Draw learning curves, token groups and predictions."""

from .learning_curves import draw_learning_curves
from .token_groups import draw_token_groups

__all__ = ['draw_learning_curves', 'draw_token_groups']
