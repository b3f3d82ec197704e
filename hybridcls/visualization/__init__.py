"""Pictures: what a training, a model or a prediction looks like."""
from .learning_curves import draw_learning_curves

__all__ = ['draw_learning_curves']
