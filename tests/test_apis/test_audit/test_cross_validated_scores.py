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


def test_a_copy_does_not_confirm_the_label_of_another():
    images, true = load_digits(n_class=3, return_X_y=True)
    images, labels = np.concatenate([images[:90], images[:5]]) + 1e-3, np.concatenate([true[:90], true[:5]])
    labels[[*range(5), *range(90, 95)]] += 1
    labels %= 3
    groups = np.concatenate([np.arange(90), np.arange(5)])
    together = cross_validated_scores(images, labels, 3, groups)
    np.testing.assert_allclose(together[:5], together[90:], rtol=1e-5)  # one fold
    assert (together[:5].argmax(1) == true[:5]).all()
    assert (cross_validated_scores(images, labels, 3)[:5].argmax(1) != true[:5]).any()
    assert np.isnan(cross_validated_scores(images[:4], np.array([0, 0, 1, 1]), 2, np.array([0, 0, 1, 2]))[:2]).all()
