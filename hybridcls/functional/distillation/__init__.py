"""Distillation losses."""

from .distillation_losses import cosine_feature_loss, distance_relation_loss, kd_kl_loss
from .influence_loss import INFLUENCE_MEANS, influence_loss

__all__ = [
    'INFLUENCE_MEANS',
    'cosine_feature_loss',
    'distance_relation_loss',
    'influence_loss',
    'kd_kl_loss',
]
