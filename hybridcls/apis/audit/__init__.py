"""What a training knows of its data: labels that look wrong."""

from .data_audit import Audit, audit_data

__all__ = ['Audit', 'audit_data']
