"""What is off is found, and the sentence says by how much."""

import numpy as np
import pytest

from hybridcls.apis.artifact.comparison import check_differences, check_same_names, largest_differences, limit_of

EXPECTED = [dict(logits=np.float32([[1, -2], [3, 4]]), embedding=np.float32([[50.0, -200.0]]))]


def got(**changes):
    return [dict(EXPECTED[0], **changes)]


def test_the_largest_difference_of_each_output():
    names = ['embedding', 'logits', 'not predicted']
    assert largest_differences(names, EXPECTED, EXPECTED) == dict(embedding=0, logits=0)
    found = largest_differences(names, EXPECTED, got(logits=np.float32([[1, -2], [3, 4.5]])))
    assert list(found.items()) == [('embedding', 0), ('logits', 0.5)]
    for broken in (np.float32([[1, -2], [3, np.nan]]), np.float32([[1, -2]])):
        assert largest_differences(names, EXPECTED, got(logits=broken))['logits'] == float('inf')


def test_the_limit_is_absolute_but_for_large_values():
    assert limit_of('logits', EXPECTED) == 1e-4
    assert limit_of('embedding', EXPECTED) == pytest.approx(2e-3)
    check_differences('model.onnx', dict(logits=1e-4, embedding=1.9e-3), EXPECTED)
    for off in (1.1e-4, float('nan'), float('inf')):
        with pytest.raises(ValueError, match='model.onnx: logits is off by .*, more than 0.0001'):
            check_differences('model.onnx', dict(logits=off), EXPECTED)


def test_what_is_predicted_must_be_in_the_graph():
    check_same_names(dict(logits=0), ['logits', 'embedding'], 'Head')
    with pytest.raises(ValueError, match=r'Head predicts doubt, .* Return them from Head.outputs\(feats\)'):
        check_same_names(dict(logits=0, doubt=0), ['logits'], 'Head')
