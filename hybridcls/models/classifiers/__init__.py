"""Classifiers: what joins backbone, neck and head, and is what the Runner trains."""
from .hybrid_classifier import HybridClassifier

__all__ = ['HybridClassifier']
