"""Look before you train: what is wrong with the machine, the data or the config, each in one sentence."""

from .examination import Examination, Wishes, examine, examine_data
from .finding import Finding, counts_of

__all__ = ['Examination', 'Finding', 'Wishes', 'counts_of', 'examine', 'examine_data']
