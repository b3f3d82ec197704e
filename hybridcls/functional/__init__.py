"""Pure maths: tensors in, tensors out; no state, no registry."""

from .adaptive_margin import adaptive_margin_on_target, move_norm_statistics, norm_scaler
from .angular_margin import additive_angular_margin, angular_margin_on_target
from .class_margins import margins_from_counts
from .class_sampling import sample_classes
from .class_statistics import ClassStatistics, class_statistics, merge_class_statistics
from .contrast_log_sums import contrast_log_sums
from .contrast_of_anchors import contrast_of_anchors
from .dirichlet_uncertainty import DirichletUncertainty, dirichlet_entropy, dirichlet_uncertainty
from .distillation_losses import cosine_feature_loss, distance_relation_loss, softened_divergence
from .evidence import EVIDENCE_KINDS, evidence_from_logits
from .evidential_losses import EVIDENTIAL_FORMS, dirichlet_kl_to_uniform, evidential_data_loss, misleading_evidence
from .gather import gather_rows, has_process_group, num_processes
from .margin_combination import additive_cosine_margin_on_target, combined_margin_on_target
from .margin_softmax import cosine_logits, margin_cross_entropy, predicted_classes, statistics_cross_entropy
from .mixture_uncertainty import MixtureUncertainty, mixture_uncertainty
from .nearest_neighbours import nearest_neighbours, vote_ranks
from .pairs_of_all import PairRates, accept_rates_of_all_pairs
from .rejection_scores import auroc, false_positive_rate
from .retrieval_scores import average_precision, map_at_r, precision_at_r, recall_at, reciprocal_rank
from .row_shard import RowShard
from .selective_prediction import area_under_risk_coverage, least_area_under_risk_coverage, risk_coverage
from .sharded_softmax import sharded_cosine_logits, sharded_margin_cross_entropy
from .supervised_contrast import supervised_contrast
from .unit_vectors import unit_rows
from .verification_scores import ROC_POINTS, fold_accuracies, most_false_accepts, roc_on_grid, true_accept_rates

__all__ = [
    'ROC_POINTS',
    'ClassStatistics',
    'DirichletUncertainty',
    'EVIDENCE_KINDS',
    'EVIDENTIAL_FORMS',
    'MixtureUncertainty',
    'PairRates',
    'RowShard',
    'accept_rates_of_all_pairs',
    'adaptive_margin_on_target',
    'additive_angular_margin',
    'additive_cosine_margin_on_target',
    'angular_margin_on_target',
    'area_under_risk_coverage',
    'auroc',
    'average_precision',
    'class_statistics',
    'combined_margin_on_target',
    'contrast_log_sums',
    'contrast_of_anchors',
    'cosine_feature_loss',
    'cosine_logits',
    'dirichlet_entropy',
    'dirichlet_kl_to_uniform',
    'dirichlet_uncertainty',
    'distance_relation_loss',
    'evidence_from_logits',
    'evidential_data_loss',
    'false_positive_rate',
    'fold_accuracies',
    'gather_rows',
    'has_process_group',
    'least_area_under_risk_coverage',
    'map_at_r',
    'margin_cross_entropy',
    'margins_from_counts',
    'merge_class_statistics',
    'misleading_evidence',
    'mixture_uncertainty',
    'most_false_accepts',
    'move_norm_statistics',
    'nearest_neighbours',
    'norm_scaler',
    'num_processes',
    'precision_at_r',
    'predicted_classes',
    'recall_at',
    'reciprocal_rank',
    'risk_coverage',
    'roc_on_grid',
    'sample_classes',
    'sharded_cosine_logits',
    'sharded_margin_cross_entropy',
    'softened_divergence',
    'statistics_cross_entropy',
    'supervised_contrast',
    'true_accept_rates',
    'unit_rows',
    'vote_ranks',
]
