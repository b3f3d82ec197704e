"""Results become lists and Python numbers."""

import math

import numpy as np
import torch

from hybridcls.plain_numbers import plain_results

VALUES = {'nan': torch.tensor(math.nan, requires_grad=True), 'inf': (np.float32(math.inf), torch.eye(2)[0], 'x', None)}


def test_tensors_and_arrays_become_numbers():
    plain = plain_results(VALUES)
    assert math.isnan(plain.pop('nan'))
    assert plain == {'inf': [math.inf, [1.0, 0.0], 'x', None]}


def test_non_finite_numbers_become_none():
    assert plain_results(VALUES, finite=True) == {'nan': None, 'inf': [None, [1.0, 0.0], 'x', None]}
