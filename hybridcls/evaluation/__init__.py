"""Metrics: what a validation reports."""
from .knn_accuracy import KNNAccuracy
from .val_loss import ValLoss

__all__ = ['KNNAccuracy', 'ValLoss']
