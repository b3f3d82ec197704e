"""The formulas of evaluation metrics."""

from .calibration_errors import classwise_calibration_error, equal_mass_calibration_error, equal_width_gaps
from .class_scores import ClassCounts, class_counts, target_ranks
from .intervals import (
    MOST_WITHOUT_VALUE,
    Interval,
    bootstrap_interval,
    fewest_units,
    mean_interval,
    share_interval,
    share_interval_by_group,
    weighted_mean,
)
from .nearest_neighbours import nearest_neighbours, vote_ranks
from .ood_scores import aupr, auroc, fpr_at_tpr
from .paired_effects import PairedEffect, holm_adjusted, paired_effect, smallest_effect
from .pairs_of_all import PairRates, accept_rates_of_all_pairs
from .resampled_ranks import ResampledRanks
from .retrieval_scores import average_precision, map_at_r, precision_at_r, recall_at, reciprocal_rank
from .selective_prediction import (
    area_under_risk_coverage,
    coverage_at_risk,
    least_area_under_risk_coverage,
    risk_coverage,
)
from .smooth_calibration_error import smooth_calibration_error
from .verification_scores import ROC_POINTS, fold_accuracies, max_false_accepts, roc_on_grid, true_accept_rates

__all__ = [
    'MOST_WITHOUT_VALUE',
    'ROC_POINTS',
    'ResampledRanks',
    'average_precision',
    'reciprocal_rank',
    'roc_on_grid',
    'ClassCounts',
    'classwise_calibration_error',
    'equal_mass_calibration_error',
    'equal_width_gaps',
    'smooth_calibration_error',
    'Interval',
    'class_counts',
    'target_ranks',
    'PairRates',
    'PairedEffect',
    'holm_adjusted',
    'paired_effect',
    'smallest_effect',
    'bootstrap_interval',
    'fewest_units',
    'mean_interval',
    'share_interval',
    'share_interval_by_group',
    'weighted_mean',
    'accept_rates_of_all_pairs',
    'area_under_risk_coverage',
    'aupr',
    'auroc',
    'coverage_at_risk',
    'fpr_at_tpr',
    'fold_accuracies',
    'least_area_under_risk_coverage',
    'map_at_r',
    'max_false_accepts',
    'nearest_neighbours',
    'precision_at_r',
    'recall_at',
    'risk_coverage',
    'true_accept_rates',
    'vote_ranks',
]
