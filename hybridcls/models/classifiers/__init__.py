"""Classifiers, which join backbone, neck and head, and are the models that the Runner trains."""

from .backward_compat import BackwardCompat
from .distillation import Distillation
from .ensemble_classifier import EnsembleClassifier
from .hybrid_classifier import HybridClassifier
from .mc_dropout_classifier import MCDropoutClassifier
from .mixture_tta import MixtureTTA
from .stream_skipping import StreamSkipping
from .teacher import Teacher

__all__ = [
    'BackwardCompat',
    'Distillation',
    'EnsembleClassifier',
    'HybridClassifier',
    'MCDropoutClassifier',
    'MixtureTTA',
    'StreamSkipping',
    'Teacher',
]
