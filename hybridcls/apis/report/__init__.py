"""One report of a trained model."""

from .report import Report, make_report

__all__ = ['Report', 'make_report']
