"""What may be chosen: shown by the interval, or by the estimate, or because nothing but the order of sums differs."""

import numpy as np
import pytest

from hybridcls.apis.benchmark.row import Accuracy, Row, Speed, accuracy_of, verdict_on
from hybridcls.apis.inference_settings import InferenceSettings

BF16, FLOAT32 = InferenceSettings('bfloat16'), InferenceSettings(channels_last=True)


def row(count, lost=0, won=0, settings=BF16, change=0.01):
    """A row of binary decisions with some lost and some won."""
    labels = np.zeros(count, dtype=np.int64)
    before = np.tile(np.float32([0.75, 0.25]), (count, 1))
    before[lost : lost + won] = [0.25, 0.75]
    after = before + np.float32([change, -change])
    after[: lost + won] = 1 - before[: lost + won]
    return Row('one', settings, accuracy=accuracy_of(after, before, labels))


@pytest.mark.parametrize(
    ('one', 'rule', 'verdict'),
    [
        (row(100), 'interval', 'not shown'),
        (row(100), 'estimate', 'within'),
        (row(1000), 'interval', 'within'),
        (row(1000, lost=8), 'estimate', 'worse'),
        (row(1000, lost=4), 'interval', 'not shown'),
        (row(1000, lost=4), 'estimate', 'within'),
        (row(100, settings=FLOAT32, change=1e-5), 'interval', 'within'),
        (row(100, settings=FLOAT32, change=0.01), 'interval', 'not shown'),
        (Row('none', BF16), 'interval', ''),
    ],
)
def test_verdicts(one, rule, verdict):
    assert verdict_on(one, 0.5, rule)[0] == verdict


def test_the_sentence_says_how_many_images_it_takes():
    assert verdict_on(row(100), 0.5, 'interval')[1].endswith('without any change it takes 765 images')


def test_changes_are_counted():
    found = row(200, lost=5, won=3).accuracy
    assert (found.changed_decisions, found.lost_points, found.largest_change) == (8, 1.0, 0.5)
    assert found.low < 1.0 < found.high


def test_images_of_unknown_classes_have_no_accuracy_but_a_change():
    scores = np.float32([[0.9, 0.1], [0.2, 0.8]])
    found = accuracy_of(scores, scores[:, ::-1], np.array([0, -1]))
    assert (found.images, found.compared, found.accuracy, found.changed_decisions) == (1, 2, 100.0, 2)
    assert accuracy_of(scores, scores, np.array([-1, -1])) is None


def test_a_tail_needs_twenty_calls():
    assert Speed.of(2, [0.1] * 19, 1.0, 0.2).p95_ms is None
    found = Speed.of(2, [0.1] * 19 + [0.3], 1.0, 0.2)
    assert (found.images_per_second, found.p50_ms) == (pytest.approx(20), pytest.approx(100))
    assert found.p95_ms == pytest.approx(np.percentile([100.0] * 19 + [300.0], 95))


def test_a_threshold_counts_answers_and_mistakes():
    scores = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]], np.float32)
    found = accuracy_of(scores, scores, np.array([0, 1, 1, -1]), 0.7)
    assert (found.images, found.answered, found.wrong) == (3, 2, 0)
    assert accuracy_of(scores, scores, np.array([0, 1, 0, -1]), 0.6).wrong == 2
    assert accuracy_of(scores, scores, np.array([0, 1, 1, -1])).answered is None


def test_float32_of_onnxruntime_needs_no_statistics():
    accuracy = Accuracy(9, 50.0, 1.0, 0.0, -30.0, 30.0, 9, 0, 1e-6)
    assert verdict_on(Row('onnxruntime', None, accuracy=accuracy), 0.5, 'interval')[0] == 'within'
    assert verdict_on(Row('onnxruntime_int8', None, accuracy=accuracy), 0.5, 'interval')[0] == 'not shown'
