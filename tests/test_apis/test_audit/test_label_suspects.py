"""Planted wrong labels come first; their number is estimated from below; clean data have no suspects."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from hybridcls.apis.audit.label_suspects import find_suspects, wrong_label_probabilities
from hybridcls.structures.sample_record import SampleRecord

IMAGES, CLASSES = 2000, 5


def world(share, seed=0):
    """Class probabilities of a model that has not learned the wrong labels, the labels, and which are wrong."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, CLASSES, IMAGES)
    logits = rng.normal(size=(IMAGES, CLASSES)) + 4 * np.eye(CLASSES)[true]
    wrong = np.arange(IMAGES) < share * IMAGES
    labels = np.where(wrong, (true + rng.integers(1, CLASSES, IMAGES)) % CLASSES, true)
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return scores.astype(np.float32), labels, wrong, true


@pytest.mark.parametrize('share', [0.0, 0.05, 0.2])
def test_planted_labels(share):
    scores, labels, wrong, true = world(share)
    found = find_suspects(labels, CLASSES, dict(model=scores))
    assert 0.85 * wrong.sum() <= found.expected <= 1.1 * wrong.sum() + 0.002 * IMAGES
    assert found.listed == round(found.expected)
    if not share:
        assert found.listed <= 0.002 * IMAGES  # of 2000 clean labels
        return
    assert average_precision_score(wrong, found.score) > 0.97
    first = found.order[: found.listed]
    assert wrong[first].mean() > 0.95
    assert (found.suggested[first] == true[first]).mean() > 0.9
    sure = found.probability > 0.9
    assert wrong[sure].mean() > 0.9
    assert (np.diff(found.probability[found.order]) <= 1e-12).all()  # rises with the score
    assert found.against(found.order[0]) == ['model']


def test_the_estimate_by_hand():
    """Of four shadows three are above 1/4 of them; half of the images are as high as these."""
    shadow = np.array([0.2, 0.6, 0.8, 1.0])
    probability, expected = wrong_label_probabilities(np.array([0.0, 0.1, 0.9, 0.7]), shadow)
    assert expected == pytest.approx(4 * (2 / 4) / 0.75)
    assert probability[:2].tolist() == [0.0, 0.0]
    assert (probability[2:] > 0.5).all()


def record(scores, labels):
    """One epoch in which the model gave these probabilities."""
    rows, logits = np.arange(len(labels)), np.log(scores)

    def margin(classes):
        others = logits.copy()
        others[rows, classes] = -np.inf
        return (logits[rows, classes] - others.max(1)).astype(np.float16)[None], others.argmax(1).astype(np.int32)[None]

    own, other = margin(labels)
    wrong = (labels + 1) % CLASSES
    return SampleRecord(
        paths=[f'{row}.png' for row in rows], labels=labels.astype(np.int32), classes=list('abcde'), root='',
        epochs=np.zeros(1, np.int32), loss=-logits[rows, labels].astype(np.float16)[None], margin=own,
        shadow=margin(wrong)[0], other=other, seen=np.ones(len(labels), np.int32),
        means=dict(margin=own[0], loss=-logits[rows, labels], right=(own[0] > 0).astype(np.float32)),
    )  # fmt: skip


def test_a_record_says_what_the_probabilities_in_it_say():
    scores, labels, _, _ = world(0.1)
    by_record = find_suspects(labels, CLASSES, {}, record(scores, labels))
    by_scores = find_suspects(labels, CLASSES, dict(training=scores))
    np.testing.assert_allclose(by_record.score, by_scores.score, atol=2e-3)
    assert by_record.expected == pytest.approx(by_scores.expected, rel=0.1)
    listed = by_record.order[: by_record.listed]
    assert (by_record.suggested[listed] == by_scores.suggested[listed]).mean() > 0.99
    assert {'area_under_margin', 'loss', 'epochs_right', 'variability'} <= by_record.signals.keys()


def test_a_signal_that_says_nothing_of_an_image_does_not_count():
    scores, labels, _, _ = world(0.1)
    nothing = np.full_like(scores, np.nan)
    both = find_suspects(labels, CLASSES, dict(model=scores, silent=nothing))
    np.testing.assert_allclose(both.score, find_suspects(labels, CLASSES, dict(model=scores)).score)
    with pytest.raises(ValueError, match='expected 2 classes or more'):
        find_suspects(labels * 0, 1, dict(model=scores[:, :1]))
