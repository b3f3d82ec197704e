"""Find training images whose labels look wrong, and images that the model fails on."""

from .data_audit import Audit, audit_data
from .held_out_audit import MORE_TABLES

__all__ = ['MORE_TABLES', 'Audit', 'audit_data']
