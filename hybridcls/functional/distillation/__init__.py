"""What a student is told by its teacher."""

from .distillation_losses import cosine_feature_loss, distance_relation_loss, softened_divergence

__all__ = [
    'cosine_feature_loss',
    'distance_relation_loss',
    'softened_divergence',
]
