"""Numbers of several labels an image, against scikit-learn."""

import numpy as np
import pytest
from answered_images import answered
from sklearn.metrics import average_precision_score, f1_score

from hybridcls.apis.report.multi_label_section import (
    multi_label_classes_section,
    multi_label_images_section,
    multi_label_numbers,
)

CLASSES = ['a', 'b', 'c', 'never']


@pytest.fixture(scope='module')
def images():
    rng = np.random.default_rng(0)
    truths = rng.random((30, 4)) < [0.5, 0.3, 0.2, 0]
    found = answered([0] * 30, [0] * 30, classes=4)
    found.scores = np.clip(0.3 + 0.4 * truths + rng.normal(0, 0.25, truths.shape), 0, 1).astype(np.float32)
    found.truths, found.answers = truths, found.scores >= 0.5
    return found


def test_numbers_are_those_of_scikit_learn(images):
    rows, table = multi_label_numbers(images, CLASSES, [0.5] * 4)
    values = {row['key']: row for row in rows}
    each = [100 * average_precision_score(images.truths[:, k], images.scores[:, k]) for k in range(3)]
    assert values['multi-label/mAP']['value'] == pytest.approx(np.mean(each), abs=1e-3)
    f1 = 100 * f1_score(images.truths, images.answers, average=None, zero_division=0)
    assert [row['f1_percent'] or 0.0 for row in table] == pytest.approx(list(f1))
    assert values['multi-label/f1']['value'] == pytest.approx(f1.mean())
    micro = values['multi-label/micro_f1']
    assert micro['value'] == pytest.approx(100 * f1_score(images.truths, images.answers, average='micro'))
    assert micro['low'] < micro['value'] < micro['high']
    assert values['multi-label/exact']['value'] == pytest.approx(100 * (images.truths == images.answers).all(1).mean())
    assert multi_label_classes_section(table).tables[0].rows[3][:4] == ['never', 0, '-', '0.50']


def test_missed_and_false_labels_are_shown(images):
    section = multi_label_images_section(images, CLASSES)
    missed, false = (group['pictures'] for group in section.groups)
    assert len(missed) == min(24, (images.truths & ~images.answers).sum())
    assert len(false) == min(24, (images.answers & ~images.truths).sum())
    rows, columns = np.nonzero(images.truths & ~images.answers)
    least = np.argmin(images.scores[rows, columns])
    assert missed[0]['alt'].startswith(f'{rows[least]}.png: ')
    assert CLASSES[columns[least]] in missed[0]['caption'].split(';')[0]
