"""Classifiers: what joins backbone, neck and head, and is what the Runner trains."""
from .ensemble_classifier import EnsembleClassifier
from .hybrid_classifier import HybridClassifier
from .mc_dropout_classifier import MCDropoutClassifier

__all__ = ['EnsembleClassifier', 'HybridClassifier', 'MCDropoutClassifier']
