"""Audit the data of a training: wrong labels, duplicates, leaks, and slices in which the model fails."""

from .data_audit import Audit, audit_data
from .held_out_audit import MORE_TABLES

__all__ = ['MORE_TABLES', 'Audit', 'audit_data']
