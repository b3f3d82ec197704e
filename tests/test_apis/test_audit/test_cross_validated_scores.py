"""Each image is scored by a regression that has not seen its label."""

import numpy as np
from sklearn.datasets import load_digits

from hybridcls.apis.audit.cross_validated_scores import cross_validated_scores


def test_a_wrong_label_cannot_speak_for_itself():
    images, true = load_digits(n_class=3, return_X_y=True)
    images, true = images[:90] + 1e-3, true[:90]
    labels = true.copy()
    labels[:5] = (labels[:5] + 1) % 3
    scores = cross_validated_scores(images, labels, 3)
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-5)
    assert (scores[:5].argmax(1) == true[:5]).all()
    assert (scores.argmax(1) == true).mean() > 0.95
    changed = labels.copy()
    changed[7] = (changed[7] + 1) % 3
    assert not np.allclose(scores, cross_validated_scores(images, changed, 3))


def test_the_only_image_of_a_class_has_no_score():
    rng = np.random.default_rng(0)
    scores = cross_validated_scores(rng.normal(size=(7, 4)), np.array([0, 0, 0, 1, 1, 1, 2]), 3)
    assert np.isnan(scores[6]).all()
    assert np.isfinite(scores[:6]).all()
