"""Votes of neighbours, against scikit-learn's classifier without the image itself."""

import numpy as np
import pytest
from answered_images import answered
from sklearn.neighbors import KNeighborsClassifier

from hybridcls.apis.report.neighbour_votes import NEIGHBOURS, with_votes


def images(count, classes):
    rng = np.random.default_rng(0)
    found = answered([0] * count, [0] * count, embeddings=rng.normal(size=(count, 5)).astype(np.float32))
    names = [['cat', 'dog', 'eel'][k % classes] for k in range(count)]
    found.items = [item._replace(label=name) for item, name in zip(found.items, names, strict=True)]
    return found, np.array(names)


def test_votes_are_those_of_the_other_images():
    found, names = images(40, 3)
    known, classes = with_votes(found)
    assert classes == ('cat', 'dog', 'eel')
    unit = found.embeddings / np.linalg.norm(found.embeddings, axis=1, keepdims=True)
    for row in range(40):
        rest = np.arange(40) != row
        knn = KNeighborsClassifier(NEIGHBOURS, weights=lambda distance: np.exp((1 - distance) / 0.07), metric='cosine')
        expected = knn.fit(unit[rest], names[rest]).predict_proba(unit[[row]])[0]
        np.testing.assert_allclose(known.scores[row], expected, atol=1e-4)


def test_images_without_a_label_are_left_out_and_one_class_is_refused():
    found, _ = images(6, 2)
    found.items[0] = found.items[0]._replace(label=None)
    known, _ = with_votes(found)
    assert len(known) == 5
    with pytest.raises(ValueError, match=r'expected labelled images of two classes or more .* got 1'):
        with_votes(images(6, 1)[0])
