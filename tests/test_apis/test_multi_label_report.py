"""Answers of several labels an image are measured as a test measures them."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from hybridcls.apis.answer import Answer
from hybridcls.apis.multi_label_report import MultiLabelReport

CLASSES = ('a', 'b', 'c', 'never')


def answered(count=40, seed=0):
    """Answers with random scores at random thresholds, and their labels (N, C)."""
    draw = np.random.default_rng(seed)
    truth = draw.random((count, 4)) < (0.5, 0.3, 0.2, 0)
    scores = (draw.random((count, 4)) * 0.7 + 0.3 * truth).astype(np.float32)
    said = scores > (0.5, 0.6, 0.7, 0.9)
    names = np.array(CLASSES)
    answers = [
        Answer(class_name='|'.join(names[chosen]), label='|'.join(names[true]), scores=row)
        for chosen, true, row in zip(said, truth, scores, strict=True)
    ]
    return answers, truth, scores, said


def test_the_numbers_are_scikit_learns():
    answers, truth, scores, said = answered()
    report = MultiLabelReport(CLASSES)
    for answer in [*answers, Answer(class_name='a', scores=scores[0])]:
        report.add(answer)
    assert (report.labelled, report.unlabelled) == (40, 1)
    precision, recall, f1, images = precision_recall_fscore_support(truth, said, zero_division=0)
    each = report.by_class()
    assert list(each) == ['a', 'b', 'c']
    for number, one in enumerate(each.values()):
        expected = average_precision_score(truth[:, number], scores[:, number])
        assert one.average_precision == pytest.approx(expected, abs=1e-6)
        assert one[1:] == pytest.approx((precision[number], recall[number], f1[number], images[number]))
    assert report.f1 == pytest.approx(f1.mean())
    assert report.mean_average_precision() == pytest.approx(
        average_precision_score(truth[:, :3], scores[:, :3]), abs=1e-6
    )
    assert json.loads(json.dumps(report.as_dict()))['by_class']['b']['images'] == images[1]
    lines = str(report).splitlines()
    assert lines[0].endswith('of 40 images with labels')
    assert lines[2].split()[1:] == [f'{100 * value:.1f}%' for value in each['a'][:4]] + [str(images[0])]


def test_they_are_those_of_a_test():
    from hybridcls.evaluation import AveragePrecision, MultiLabelMetric

    answers, truth, scores, said = answered(seed=1)
    report = MultiLabelReport(CLASSES)
    samples = []
    for answer, true, row, chosen in zip(answers, truth, scores, said, strict=True):
        report.add(answer)
        samples.append(
            dict(
                pred_score=torch.from_numpy(row),
                gt_label=torch.from_numpy(true.nonzero()[0]),
                thresholds=torch.where(torch.from_numpy(chosen), 0.0, 1.1),
            )
        )
    found = {}
    for metric in (AveragePrecision(), MultiLabelMetric()):
        metric.process(None, samples)
        found.update(metric.evaluate(len(samples)))
    assert 100 * report.mean_average_precision() == pytest.approx(found['multi-label/mAP'])
    assert 100 * report.f1 == pytest.approx(found['multi-label/f1-score'])


def test_counts_go_on_from_a_state_and_the_map_says_that_it_cannot():
    answers, *_ = answered()
    whole, first, second = (MultiLabelReport(CLASSES) for _ in range(3))
    for number, answer in enumerate(answers):
        whole.add(answer)
        if number < 10:
            first.add(answer)
    second.restore(json.loads(json.dumps(first.state())))
    for answer in answers[10:]:
        second.add(answer)
    assert second.f1 == whole.f1
    assert second.mean_average_precision() is None
    assert 'mAP needs all scores' in str(second)
    assert second.by_class()['a'] == whole.by_class()['a']._replace(average_precision=None)


def test_without_labels_there_is_none():
    report = MultiLabelReport(CLASSES)
    report.add(Answer(class_name='a', scores=np.zeros(4, np.float32)))
    assert (report.f1, report.mean_average_precision(), str(report)) == (None, None, 'no labelled image')
    report.add(Answer(class_name='', label='', scores=np.zeros(4, np.float32)))  # none of them, and that is right
    assert (report.labelled, report.f1, report.mean_average_precision(), report.by_class()) == (1, 0.0, None, {})
