"""Classifiers: what joins backbone, neck and head, and is what the Runner trains."""

from .distillation import Distillation
from .ensemble_classifier import EnsembleClassifier
from .hybrid_classifier import HybridClassifier
from .mc_dropout_classifier import MCDropoutClassifier
from .mixture_tta import MixtureTTA
from .teacher import Teacher

__all__ = ['Distillation', 'EnsembleClassifier', 'HybridClassifier', 'MCDropoutClassifier', 'MixtureTTA', 'Teacher']
