"""Check machine, data and config before a training; each problem is one sentence."""

from .examination import Examination, Wishes, examine, examine_data
from .finding import Finding, counts_of

__all__ = ['Examination', 'Finding', 'Wishes', 'counts_of', 'examine', 'examine_data']
