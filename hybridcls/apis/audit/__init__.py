"""What a training knows of its data: labels that look wrong."""

from .data_audit import Audit, audit_data
from .held_out_audit import MORE_TABLES

__all__ = ['MORE_TABLES', 'Audit', 'audit_data']
