"""Planted wrong labels come first, about as many as were planted; clean data have no suspects."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from hybridcls.apis.audit.label_suspects import find_suspects
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
    assert 0.85 * wrong.sum() <= found.expected <= 1.1 * wrong.sum() + 0.01 * IMAGES
    assert found.listed == (found.probability > 0.5).sum()
    if not share:
        assert found.listed <= 0.005 * IMAGES  # of 2000 clean labels
        return
    assert average_precision_score(wrong, found.score) > 0.97
    first = found.order[: found.listed]
    assert wrong[first].mean() > 0.95
    assert (found.suggested[first] == true[first]).mean() > 0.9
    sure = found.probability > 0.9
    assert wrong[sure].mean() > 0.9
    assert (np.diff(found.probability[found.order]) <= 1e-12).all()  # rises with the score
    assert found.against(found.order[0]) == ['model']


def record(scores, labels):
    """One epoch in which the model gave these probabilities."""
    rows, logits = np.arange(len(labels)), np.log(scores)

    def margin(classes):
        others = logits.copy()
        others[rows, classes] = -np.inf
        return (logits[rows, classes] - others.max(1)).astype(np.float16)[None], others.argmax(1).astype(np.int32)[None]

    own, other = margin(labels)
    return SampleRecord(
        paths=[f'{row}.png' for row in rows], labels=labels.astype(np.int32), classes=list('abcde'), root='',
        epochs=np.zeros(1, np.int32), loss=-logits[rows, labels].astype(np.float16)[None], margin=own,
        other=other, seen=np.ones(len(labels), np.int32),
        means=dict(margin=own[0], loss=-logits[rows, labels], right=(own[0] > 0).astype(np.float32)),
    )  # fmt: skip


def test_a_record_says_what_the_probabilities_in_it_say():
    scores, labels, _, _ = world(0.1)
    by_record = find_suspects(labels, CLASSES, {}, record(scores, labels))
    by_scores = find_suspects(labels, CLASSES, dict(training=scores))
    np.testing.assert_allclose(by_record.score, by_scores.score, atol=2e-3)
    assert by_record.expected == pytest.approx(by_scores.expected, rel=0.1)
    listed = by_record.order[: by_record.listed]
    assert by_record.against(listed[0]) == ['training']
    assert (by_record.suggested[listed] == by_scores.suggested[listed]).mean() > 0.99
    assert {'area_under_margin', 'loss', 'epochs_right', 'variability'} <= by_record.signals.keys()


def test_a_signal_that_says_nothing_of_an_image_does_not_count():
    scores, labels, _, _ = world(0.1)
    nothing = np.full_like(scores, np.nan)
    both = find_suspects(labels, CLASSES, dict(model=scores, silent=nothing))
    np.testing.assert_allclose(both.score, find_suspects(labels, CLASSES, dict(model=scores)).score)
    with pytest.raises(ValueError, match='expected 2 classes or more'):
        find_suspects(labels * 0, 1, dict(model=scores[:, :1]))


def test_a_weak_model_lists_only_labels_against_which_all_signals_name_one_class():
    scores, labels, _, _ = world(0.0)
    rng = np.random.default_rng(1)
    weak = np.roll(scores, 1, axis=1)
    weak[1000:] = scores[1000:]  # one half of the labels is contradicted, by a model that is sure
    fitted = scores.copy()
    fitted[:40] = weak[:40]
    found = find_suspects(labels, CLASSES, dict(cross_validated=weak), None, fitted)
    assert 'contradicts 5' in found.caution
    assert found.contradicted == pytest.approx((weak.argmax(1) != labels).mean())
    named = (weak.argmax(1) == fitted.argmax(1)) & (weak.argmax(1) != labels)
    assert named[found.order[: found.listed]].all()
    assert found.listed <= named.sum() < 0.05 * IMAGES
    few = find_suspects(labels, CLASSES, dict(cross_validated=scores), None, rng.permutation(fitted))
    np.testing.assert_array_equal(few.order, find_suspects(labels, CLASSES, dict(cross_validated=scores)).order)


def test_the_list_gets_shorter_step_by_step_as_more_is_contradicted_without_need():
    scores, labels, _, _ = world(0.0)
    fitted = scores.copy()  # the trained model says the labels: nothing that it agrees with is for another class
    lengths = []
    for rolled in range(400, 1001, 75):
        weak = scores.copy()
        weak[:rolled] = np.roll(scores[:rolled], 1, axis=1)  # a model that is sure, and wrong of these
        found = find_suspects(labels, CLASSES, dict(cross_validated=weak), None, fitted)
        strictness = np.clip((found.contradicted - 0.25) / 0.15, 0, 1)
        assert found.strictness == pytest.approx(strictness, abs=0.02)
        assert found.listed_unstrictly > 0.9 * rolled
        assert found.listed == pytest.approx((1 - found.strictness) * found.listed_unstrictly, abs=0.01 * IMAGES)
        assert (found.caution is None) == (found.strictness == 0)
        lengths.append(found.listed)
    assert lengths[-1] < 0.02 * IMAGES
    assert np.abs(np.diff(lengths)).max() < 0.45 * max(lengths)


def test_one_signal_alone_is_no_agreement():
    scores, labels, _, _ = world(0.0)
    found = find_suspects(labels, CLASSES, {}, record(np.roll(scores, 1, axis=1), labels))  # nothing was learned
    assert found.contradicted > 0.9
    assert (found.listed, found.strictness) == (0, 1)
    assert 'do not act on the list' in found.caution


def test_of_a_good_model_a_third_of_the_labels_may_be_wrong():
    scores, labels, wrong, _ = world(0.35)
    found = find_suspects(labels, CLASSES, dict(cross_validated=scores), None, scores)
    assert found.contradicted > 0.35
    assert found.strictness < 0.1  # all signals explain what is contradicted
    assert found.listed > 0.75 * wrong.sum()
    assert wrong[found.order[: found.listed]].mean() > 0.95


def test_of_many_classes_those_with_evidence_are_enough(monkeypatch):
    scores, labels, wrong, _ = world(0.1)
    silent = np.full_like(scores, np.nan)
    whole = find_suspects(labels, CLASSES, dict(model=scores, silent=silent), record(scores, labels))
    monkeypatch.setattr('hybridcls.apis.audit.label_suspects._AT_ONCE', 777)
    parts = find_suspects(labels, CLASSES, dict(model=scores, silent=silent), record(scores, labels))
    for name in ('order', 'probability', 'suggested', 'score'):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    monkeypatch.setattr('hybridcls.apis.audit.label_suspects._CLASSES', 4)  # three and the rest
    few = find_suspects(labels, CLASSES, dict(model=scores, silent=silent), record(scores, labels))
    assert few.listed == pytest.approx(whole.listed, rel=0.05)
    assert wrong[few.order[: few.listed]].mean() > 0.95
    np.testing.assert_array_equal(few.suggested, whole.suggested)


def test_a_silent_signal_does_not_speak_against_what_others_say_of_a_weak_model():
    scores, labels, _, _ = world(0.0)
    weak = np.roll(scores, 1, axis=1)
    weak[1000:] = scores[1000:]
    fitted = scores.copy()
    fitted[:40] = weak[:40]
    silent = np.full_like(scores, np.nan)
    found = find_suspects(labels, CLASSES, dict(cross_validated=weak, neighbours=silent), None, fitted)
    alone = find_suspects(labels, CLASSES, dict(cross_validated=weak), None, fitted)
    assert found.listed == alone.listed > 20
    first = find_suspects(labels, CLASSES, dict(cross_validated=silent, neighbours=weak), None, fitted)
    assert first.contradicted == alone.contradicted  # by the signal that says something
    assert first.listed == alone.listed
    np.testing.assert_array_equal(found.order, alone.order)
