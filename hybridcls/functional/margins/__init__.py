"""Margins on the cosine of the target class, and softmax over many classes."""

from .adaptive_margin import adaptive_margin_on_target, moved_norm_statistics, norm_moments, norm_scaler
from .angular_margin import additive_angular_margin, angular_margin_on_target
from .class_margins import margins_from_counts
from .class_sampling import sample_classes
from .margin_combination import additive_cosine_margin_on_target, combined_margin_on_target
from .margin_softmax import cosine_logits, margin_cross_entropy, predicted_classes, statistics_cross_entropy
from .streamed_softmax import SoftmaxStats, merge_softmax_stats, softmax_stats

__all__ = [
    'SoftmaxStats',
    'adaptive_margin_on_target',
    'additive_angular_margin',
    'additive_cosine_margin_on_target',
    'angular_margin_on_target',
    'softmax_stats',
    'combined_margin_on_target',
    'cosine_logits',
    'margin_cross_entropy',
    'margins_from_counts',
    'merge_softmax_stats',
    'moved_norm_statistics',
    'norm_moments',
    'norm_scaler',
    'predicted_classes',
    'sample_classes',
    'statistics_cross_entropy',
]
