"""All cases."""

from . import (
    adapter_cases,
    contrastive_cases,
    evidential_cases,
    loss_cases,
    margin_cases,
    metric_cases,
    module_cases,
    stage_cases,
)
from .fidelity_case import FidelityCase

__all__ = ['CASES', 'case_of']

CASES: list[FidelityCase] = [
    *margin_cases.CASES, *contrastive_cases.CASES, *evidential_cases.CASES, *loss_cases.CASES,
    *module_cases.CASES, *adapter_cases.CASES, *stage_cases.CASES,
    *metric_cases.CASES,
]  # fmt: skip


def case_of(name: str) -> FidelityCase:
    """Return the case of a name.

    Raises:
        KeyError: If there is none.
    """
    return {case.name: case for case in CASES}[name]
