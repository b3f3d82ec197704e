"""Report on a trained model."""

from .model_report import Report, make_report

__all__ = ['Report', 'make_report']
