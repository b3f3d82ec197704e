"""All fidelity cases, and their selection by name."""

from collections.abc import Sequence
from fnmatch import fnmatch

from hybridcls.checks import did_you_mean

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

__all__ = ['CASES', 'case_of', 'chosen_cases']

CASES: list[FidelityCase] = [
    *margin_cases.CASES, *contrastive_cases.CASES, *evidential_cases.CASES, *loss_cases.CASES,
    *module_cases.CASES, *adapter_cases.CASES, *stage_cases.CASES,
    *metric_cases.CASES,
]  # fmt: skip


def case_of(name: str) -> FidelityCase:
    """Return the case with a name.

    Raises:
        KeyError: If there is none.
    """
    return {case.name: case for case in CASES}[name]


def chosen_cases(names: Sequence[str]) -> list[FidelityCase]:
    """Return the cases that names select, in the order of the table; all cases without names.

    Args:
        names (Sequence[str]): Each is a case, a part or a kind, a pattern with ``*`` or ``?``, or else a piece of the
            name of cases; in capitals or not.

    Raises:
        ValueError: If a name means none.
    """
    wanted = set()
    for name in names:
        found = _meant(name.lower())
        if not found:
            known = {word for case in CASES for word in _words(case)}
            raise ValueError(
                f'fidelity: expected names of cases, parts or kinds, got {name!r}.{did_you_mean(name, known)} '
                'hybridcls fidelity --list shows all.'
            )
        wanted |= found
    return [case for case in CASES if not names or case.name in wanted]


def _meant(name: str) -> set[str]:
    exactly = {case.name for case in CASES if name in {word.lower() for word in _words(case)}}
    if exactly:
        return exactly
    pattern = name if {*'*?'} & {*name} else f'*{name}*'
    return {case.name for case in CASES if any(fnmatch(word.lower(), pattern) for word in (case.name, *case.pieces))}


def _words(case: FidelityCase) -> tuple[str, ...]:
    return (case.name, case.kind, *case.pieces)
