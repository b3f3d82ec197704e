"""Pictures: what a training, a model or a prediction looks like."""

from .learning_curves import draw_learning_curves
from .token_groups import draw_token_groups

__all__ = ['draw_learning_curves', 'draw_token_groups']
