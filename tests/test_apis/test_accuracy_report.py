"""Right answers are counted by class."""

import pytest

from hybridcls.apis.accuracy_report import AccuracyReport
from hybridcls.apis.answer import Answer


def test_counts_by_hand():
    report = AccuracyReport(('cat', 'dog', 'emu'))
    for label, said in [('cat', 'cat'), ('cat', 'dog'), ('dog', 'dog'), (None, 'emu'), ('cat', 'cat')]:
        report.add(Answer(class_name=said, label=label))
    assert report.top1 == 3 / 4
    assert report.by_class() == {'cat': pytest.approx(2 / 3), 'dog': 1.0}
    assert report.as_dict() == dict(
        accuracy=0.75,
        images=4,
        unlabelled=1,
        by_class=dict(cat=dict(accuracy=pytest.approx(2 / 3), images=3), dog=dict(accuracy=1.0, images=1)),
    )
    assert str(report).splitlines() == [
        'accuracy   75.0%  of 4 images with a label',
        'cat        66.7%  of 3',
        'dog       100.0%  of 1',
        '(1 image without a label that the model knows)',
    ]


def test_without_labels_there_is_none():
    report = AccuracyReport(('cat',))
    report.add(Answer(class_name='cat'))
    assert (report.top1, report.by_class(), str(report)) == (None, {}, 'no labelled image')
