"""What float16 may change is bounded and said."""

import numpy as np
import pytest

from hybridcls.apis.artifact.half_precision import check_half


def test_probabilities_may_be_off_a_little():
    before = [dict(probabilities=np.float32([[0.505, 0.495], [0.1, 0.9]]))]
    after = [dict(probabilities=np.float32([[0.495, 0.505], [0.1, 0.9]]))]
    assert 'at most 0.01, top-1 agrees on 1 of 2' in check_half(before, after)
    for off in (0.47, np.nan):
        with pytest.raises(ValueError, match='a probability is off by'):
            check_half(before, [dict(probabilities=np.float32([[off, 0.53], [0.1, 0.9]]))])


def test_embeddings_alone_keep_their_direction():
    before = [dict(embedding=np.float32([[3, 4], [1, 0]]))]
    assert 'cosine of 1.000000' in check_half(before, [dict(embedding=np.float32([[6, 8], [1, 0]]))])
    for turned in ([0, 1], [np.nan, 1]):
        with pytest.raises(ValueError, match='an embedding turns'):
            check_half(before, [dict(embedding=np.float32([[3, 4], turned]))])
