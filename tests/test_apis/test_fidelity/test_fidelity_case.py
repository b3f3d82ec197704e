import numpy as np
import pytest
import torch

from hybridcls.apis.fidelity import Official, Place, case_of
from hybridcls.apis.fidelity.fidelity_case import float_numbers, gradient_of


def test_numbers_get_the_precision_of_the_place_and_integers_keep_theirs():
    place = Place(torch.device('cpu'), torch.float32)
    assert place.tensor(np.ones(2)).dtype == torch.float32
    assert place.tensor(np.ones(2, dtype=np.int64)).dtype == torch.int64
    leaf = place.tensor(np.ones(2), gradient=True)
    assert (leaf.is_leaf, leaf.requires_grad) == (True, True)
    with pytest.raises(RuntimeError, match='expected a gradient'):
        gradient_of(leaf)
    assert float_numbers(leaf).dtype == np.float64


def test_the_source_is_told_in_one_line():
    assert str(Official('davda54/sam', '3c3afdbd', 'sam.py')) == 'davda54/sam 3c3afdbd sam.py'
    case = case_of('AdaFaceHead')
    assert case.tolerance_in(torch.float64) < case.tolerance_in(torch.float32)
    assert case.as_dict()['pieces'] == ['AdaFaceHead', 'AdaFace', 'MarginHead']
