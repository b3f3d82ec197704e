"""Cases of a parametrization that repeat what its other cases show run at night."""

import pytest


def at_night(cases, *repeated):
    """Return the cases, the ``repeated`` of which are nightly."""
    cases = list(cases)
    assert all(case in cases for case in repeated), 'expected names of cases'
    return [pytest.param(case, marks=pytest.mark.nightly) if case in repeated else case for case in cases]
