"""The map marks what is wrong."""

import numpy as np
from answered_images import answered

from hybridcls.apis.report.map_section import map_section


def test_wrong_images_are_marked():
    vectors = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    section = map_section(answered([0] * 8, [0] * 6 + [1] * 2, embeddings=vectors), ['a', 'b'])
    assert [dot['wrong'] for dot in section.map['dots']] == [False] * 6 + [True] * 2
    assert section.map['pictures'] == []  # the files are not there
    assert all(4 <= dot[axis] <= 96 for dot in section.map['dots'] for axis in 'xy')
    assert map_section(answered([0] * 8, [0] * 8), ['a', 'b']) is None
