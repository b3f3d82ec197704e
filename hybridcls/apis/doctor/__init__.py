"""Check the machine, the data and the config before a training; each finding is one sentence."""

from .examination import Examination, Wishes, examine, examine_data
from .finding import Finding, counts_of

__all__ = ['Examination', 'Finding', 'Wishes', 'counts_of', 'examine', 'examine_data']
