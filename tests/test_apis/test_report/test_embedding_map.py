"""Which images of a map get a picture."""

import numpy as np

from hybridcls.apis.report.embedding_map import spread_places


def test_places_with_pictures_lie_apart():
    places = np.array([[0.5, 0.5], [0.51, 0.5], [0.0, 0.0], [1.0, 1.0], [0.01, 0.0]])
    assert sorted(spread_places(places, 3).tolist()) == [0, 2, 3]
    assert len(spread_places(places, 60)) == 5
