"""Compare parts of hybridcls with the official code of their papers: the cases, the comparison, the table."""

from .case_comparison import Comparison, compare
from .cases import CASES, case_of, chosen_cases
from .fidelity_case import FidelityCase, Official, Place
from .fidelity_table import case_text, comparison_text, page_rows, summary
from .not_compared import NOT_COMPARED, missing_pieces, registered_pieces

__all__ = [
    'CASES', 'Comparison', 'FidelityCase', 'NOT_COMPARED', 'Official', 'Place', 'case_of', 'case_text', 'chosen_cases',
    'compare', 'comparison_text', 'missing_pieces', 'page_rows', 'registered_pieces', 'summary',
]  # fmt: skip
