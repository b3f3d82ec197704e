"""The verdict is short sentences of the numbers in the page."""

import numpy as np
import pytest
from answered_images import answered

from hybridcls.apis.report.calibration_effect import calibration_effect
from hybridcls.apis.report.numbers import class_numbers, headline, rejection_numbers
from hybridcls.apis.report.verdict_section import class_verdict, price_of_errors, verdict_section
from hybridcls.apis.report.weak_classes import weak_classes
from hybridcls.functional.metrics import share_interval

CLASSES = ('good', 'bad')


@pytest.fixture(scope='module')
def known():
    """Of 60 good images 57 are right, of 40 bad ones 10; the surer, the more often right."""
    labels = np.repeat([0, 1], [60, 40])
    predicted = labels.copy()
    predicted[[0, 1, 2, *range(60, 90)]] ^= 1
    wrong = predicted != labels
    return answered(labels, predicted, surest=np.where(wrong, 0.6, np.linspace(0.55, 0.99, 100)))


def verdict(known, warnings=(), unknown=None, corrupted=(), threshold=None):
    table = class_numbers(known, CLASSES)[0]
    effect = calibration_effect(known)
    rejection = [] if unknown is None else rejection_numbers(known, unknown, CLASSES)
    return dict(class_verdict(
        known, CLASSES, headline(known, CLASSES), weak_classes(table, 0.67), table, effect,
        price_of_errors(known, CLASSES), ['These.'], warnings, unknown, rejection, corrupted, threshold,
    ))  # fmt: skip


def test_accuracy_weak_classes_and_what_is_missing_are_said(known):
    said = verdict(known, ['5 are copies.'])
    low, high = (100 * end for end in share_interval(67, 100))
    assert said['How accurate is the model?'] == (
        f'Accuracy 67.0 % [{low:.1f}, {high:.1f}] on 100 images. A model that always answers \u2068good\u2069 has '
        '60.0 %. This model is not clearly better.'
    )
    assert 'Low recall: \u2068bad\u2069 (25 % of 40 images)' in said['Which classes are weak?']
    assert 'probabilities are too high by' in said['Can its probabilities be trusted?']
    assert said['What makes these numbers less reliable?'] == '5 are copies.'
    for option in ('--ood', '--corruptions'):
        assert option in said['What was not measured?']
    assert verdict_section(list(said.items())).tables[0].rows[0] == ['Which images were used?', 'These.']


def test_the_price_of_fewer_errors_is_that_of_the_images(known):
    rows = price_of_errors(known, CLASSES)
    order = np.argsort(-known.confidence, kind='stable')
    risks = known.wrong[order].cumsum() / np.arange(1, 101)
    sure = known.confidence[order]
    ends = [place for place in range(100) if place == 99 or sure[place] > sure[place + 1]]  # no threshold parts equals
    for row in rows:
        count = max((place + 1 for place in ends if risks[place] <= row['risk'] + 1e-9), default=0)
        assert row['answered'] == pytest.approx(count)
        assert row['threshold'] == pytest.approx(sure[count - 1])
        wrong = int(known.wrong[order[:count]].sum())
        low, high = share_interval(wrong, count)
        assert [row['error'], row['error_low'], row['error_high']] == pytest.approx(
            [100 * wrong / count, 100 * low, 100 * high]
        )
    five = rows[2]
    text = verdict(known)['Which answers should be rejected?']
    assert f'below {100 * five["threshold"]:.1f} %. These are {100 - five["answered"]:.1f} % of the images.' in text
    ends = f'[{five["error_low"]:.1f}, {five["error_high"]:.1f}]'
    assert f'Of the other answers, {five["error"]:.1f} % {ends} are wrong.' in text
    good = answered([0, 1] * 10, [0, 1] * 10)
    text = verdict(good)['Which answers should be rejected?']
    assert 'no image has to be rejected. Of all answers, 0.0 % [0.0, 16.8] are wrong.' in text
    one = verdict(answered([0], [0]))['Which answers should be rejected?']
    assert one.startswith('Too few images for a statement. For a threshold with a guarantee')
    hopeless = answered([0, 1] * 10, [1, 0] * 10)
    assert price_of_errors(hopeless, CLASSES)[0]['threshold'] is None
    assert 'No threshold keeps' in verdict(hopeless)['Which answers should be rejected?']


def test_a_threshold_that_does_not_hold_is_told(known):
    share = dict(value=0.5, low=0.4, high=0.6)
    text = 'Which answers should be rejected?'
    for low, high, holds in (
        (0.06, 0.2, 'more than guaranteed'),
        (0.0, 0.04, 'within the guarantee'),
        (0.01, 0.2, 'no clear difference'),
    ):
        threshold = dict(risk=0.05, answered=share, errors=dict(value=0.1, low=low, high=high), images=50)
        effect = calibration_effect(known)._replace(threshold=threshold)
        said = class_verdict(known, CLASSES, headline(known, CLASSES), weak_classes([], 0.6), [], effect, [], [], [])
        assert holds in dict(said)[text]


def test_unknown_and_worse_images_are_judged(known):
    unknown = answered([-1] * 20, [0] * 20, surest=np.linspace(0.9, 0.99, 20))
    worse = [dict(kind=None, severity=0, accuracy=67.0)] + [
        dict(kind='blur', severity=number, accuracy=60.0 - number, accuracy_low=40.0, accuracy_high=70.0)
        for number in (1, 2)
    ]  # fmt: skip
    said = verdict(known, unknown=unknown, corrupted=worse, threshold=0.95)
    noticed = said['Does it recognize unknown images?']
    assert noticed.startswith(
        'Hardly: if 95 % of the known images are accepted, 100.0 % of these 20 unknown images are'
    )
    share = 100 * (unknown.confidence.astype(float) >= 0.95).mean()
    assert f'The threshold of the calibration answers {share:.1f} % of them' in noticed
    text = said['How accurate is it on corrupted images?']
    assert 'The lowest one is 58.0 % [40.0, 70.0] (blur, severity 2 of 5).' in text
    assert '--ood' not in said['What was not measured?']


def test_of_few_images_nothing_is_claimed():
    said = verdict(answered([1, 1, 0], [0, 1, 0]))
    assert said['Which classes are weak?'] == 'All classes have too few images for a statement.'
    assert 'too few images for a statement' in said['Can its probabilities be trusted?']
