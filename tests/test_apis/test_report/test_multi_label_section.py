"""Several labels an image are shown."""

import numpy as np
import pytest
from answered_images import answered_labels

from hybridcls.apis.report.multi_label_numbers import multi_label_numbers
from hybridcls.apis.report.multi_label_section import multi_label_classes_section, multi_label_images_section

CLASSES = ['a', 'b', 'c', 'never']


@pytest.fixture(scope='module')
def images():
    return answered_labels(30)


def test_few_images_are_noted(images):
    table = multi_label_numbers(images, CLASSES, [0.5] * 4)[1]
    rows = multi_label_classes_section(table).tables[0].rows
    assert rows[3][:4] == ['never', 0, '-', '-']
    assert [row[-1] for row in rows] == ['few images' if row['insufficient_data'] else '' for row in table]
    low, high = (table[0][f'f1_percent_{end}'] for end in ('low', 'high'))
    assert rows[0][5] == f'{low:.1f} to {high:.1f}'


def test_missed_and_false_labels_are_shown(images):
    section = multi_label_images_section(images, CLASSES)
    missed, false = (group['pictures'] for group in section.groups)
    assert len(missed) == min(24, (images.truths & ~images.answers).sum())
    assert len(false) == min(24, (images.answers & ~images.truths).sum())
    rows, columns = np.nonzero(images.truths & ~images.answers)
    least = np.argmin(images.scores[rows, columns])
    assert missed[0]['alt'].startswith(f'{rows[least]}.png: ')
    assert CLASSES[columns[least]] in missed[0]['caption'].split(';')[0]
