"""Whether a norm is a sign of quality is said of this model, by the intervals."""

import numpy as np
import pytest

from hybridcls.apis.report.embedding_norm import NormReadings
from hybridcls.apis.report.norm_section import norm_section, verdict


@pytest.mark.parametrize(
    ('low', 'high', 'expected'),
    [(-0.7, -0.4, 'falls clearly'), (-0.4, -0.1, 'falls a little'), (-0.1, 0.1, 'unclear'), (0.1, 0.3, 'rises'),
     (None, None, 'unclear')],
)  # fmt: skip
def test_verdicts(low, high, expected):
    assert verdict(dict(low=low, high=high)) == expected


def readings(spread, **ends):
    norms = {kind: 10 + spread * np.arange(12.0).reshape(2, 6) for kind in ends}
    rows = [dict(kind=kind, score='norm', value=sum(of) / 2, low=of[0], high=of[1]) for kind, of in ends.items()]
    right = [
        dict(score='norm', value=60.0, low=55.0, high=65.0),
        dict(score='confidence', value=80.0, low=70.0, high=90.0),
    ]
    return NormReadings(norms, rows, right, 2)


def test_where_it_is_a_sign_and_where_it_is_not():
    says = norm_section(readings(1.0, blur=(-0.8, -0.5), jpeg=(0.1, 0.2))).says
    assert 'is a sign of image quality for some kinds of degradation. In 2 images' in says[0]
    assert 'it falls clearly with blur; it rises with jpeg (there it misleads).' in says[0]
    assert 'larger norm in 60.0 % [55.0, 65.0] of the pairs' in says[2]
    assert 'larger confidence in 80.0 % [70.0, 90.0] (chance: 50 %)' in says[2]
    assert 'is no sign of image quality' in norm_section(readings(1.0, blur=(-0.1, 0.2))).says[0]
    assert 'is a sign of image quality. In' in norm_section(readings(1.0, blur=(-0.8, -0.5))).says[0]


def test_equal_norms_are_said_to_be_equal():
    says = norm_section(readings(1e-4, blur=(-0.8, -0.5))).says
    assert 'is no sign of image quality, because nearly all norms are within 0.0099 % of each other' in says[0]
