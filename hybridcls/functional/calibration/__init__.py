"""Calibration of probabilities, and thresholds and prediction sets with guarantees."""

from .conformal_sets import conformal_threshold, images_for_sets, match_sets, match_threshold
from .isotonic_scaling import apply_isotonic, fit_isotonic
from .log_scores import log_scores
from .risk_threshold import RiskThreshold, images_without_error, risk_threshold
from .score_scaling import SCALINGS, apply_scaling, fit_scaling
from .skip_threshold import SkipThreshold, skip_threshold
from .temperature_scaling import fit_temperature
from .vector_scaling import fit_vector

__all__ = [
    'SCALINGS', 'RiskThreshold', 'SkipThreshold', 'apply_isotonic', 'apply_scaling', 'conformal_threshold',
    'fit_isotonic', 'fit_scaling', 'fit_temperature', 'fit_vector', 'images_for_sets', 'images_without_error',
    'log_scores', 'match_sets', 'match_threshold', 'risk_threshold', 'skip_threshold',
]  # fmt: skip
