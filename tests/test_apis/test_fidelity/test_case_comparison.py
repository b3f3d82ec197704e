import dataclasses
import math

import numpy as np
import pytest
import torch

from hybridcls.apis.fidelity import Comparison, FidelityCase, Place, compare
from hybridcls.apis.fidelity.case_comparison import deviation, without_tf32

PLACE = Place(torch.device('cpu'), torch.float64)
CASE = FidelityCase(
    'mine', ('Mine',), 'loss', 'no paper', 'by hand', 'x=2', lambda place: dict(y=place.tensor(np.array(2.0))),
    lambda: dict(y=np.array(2.0)),
)  # fmt: skip


@pytest.mark.parametrize(
    ('found', 'expected', 'far'),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([110.0], [100.0], 0.1),  # of the number
        ([0.6, 0.001], [0.5, 0.0], 0.2),  # of the largest one, where that is below 1
        ([0.01, 100.0], [0.0, 100.0], 0.01),
        ([1.0], [1.0, 1.0], math.inf),
        ([math.nan], [math.nan], 0.0),
        ([math.nan], [1.0], math.inf),
        ([math.inf], [math.inf], 0.0),
        ([1.0], [math.inf], math.inf),
        ([0.5], [0.0], 0.5),
        ([], [], 0.0),
    ],
)
def test_deviation(found, expected, far):
    assert deviation(np.array(found), np.array(expected)) == pytest.approx(far, rel=1e-9)


def test_what_comes_out_of_a_case():
    found = compare(CASE, PLACE)
    assert (found.deviation, found.ok, found.problem, found.tolerance) == (0.0, True, '', 1e-9)
    assert found.as_dict()['against'] == 'by hand'
    off = dataclasses.replace(CASE, expected=lambda: dict(y=np.array(2.0 + 1e-6)))
    assert compare(off, PLACE).ok is False
    assert compare(off, Place(torch.device('cpu'), torch.float32)).ok is True
    other = dataclasses.replace(CASE, expected=lambda: dict(z=np.array(2.0)))
    assert compare(other, PLACE).problem == "it has ['y'], to compare with ['z']"
    assert compare(dataclasses.replace(CASE, expected=None), PLACE).problem.startswith('KeyError')


def test_a_case_that_fails_does_not_end_the_table():
    def fails(place):
        raise RuntimeError('no kernel')

    found = compare(dataclasses.replace(CASE, found=fails), PLACE)
    assert (found.ok, found.deviation, found.problem) == (False, None, 'RuntimeError: no kernel')


def test_a_package_that_is_absent():
    found = compare(dataclasses.replace(CASE, needs='no_such_package'), PLACE)
    assert (found.ok, found.skipped, found.problem) == (None, True, 'needs no_such_package')
    assert Comparison(CASE, math.nan, 1e-9).ok is False


def test_tf32_is_off_in_the_block_and_back_after_it():
    kept = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    try:
        with without_tf32():
            assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = kept
