"""Coverage and error of answers, coverage and size of sets, by hand."""

import pytest
import torch

from hybridcls.evaluation import AnsweredMetric, MissingFieldError


def sample(label, predicted, answered=None, chosen=None):
    fields = dict(pred_score=torch.eye(3)[predicted], pred_label=torch.tensor([predicted]))
    if answered is not None:
        fields['answered'] = torch.tensor([answered])
    if chosen is not None:
        fields['prediction_set'] = torch.tensor(chosen)
    return dict(fields, gt_label=torch.tensor([label]))


def evaluate(*samples):
    metric = AnsweredMetric()
    metric.process(None, samples)
    return metric.evaluate(size=len(samples))


def test_counts_by_hand():
    result = evaluate(
        sample(0, 0, True, [0]), sample(1, 2, True, [2, 1]), sample(1, 0, False, [0, 2]), sample(-1, 0, True, [0]),
        sample(7, 1, False, [1, 0, 2]),
    )  # fmt: skip
    assert result == {
        'answered/coverage': 60.0,  # an unknown image counts,
        'answered/error': pytest.approx(200 / 3),  # and is wrong where it is answered
        'answered/set_coverage': pytest.approx(200 / 3),
        'answered/set_size': pytest.approx(5 / 3),
    }


def test_only_what_is_there_is_reported():
    assert evaluate(sample(0, 0, True), sample(1, 1, True)) == {'answered/coverage': 100.0, 'answered/error': 0.0}
    assert evaluate(sample(0, 1, None, [1])) == {'answered/set_coverage': 0.0, 'answered/set_size': 1.0}
    assert evaluate(sample(0, 1, False)) == {'answered/coverage': 0.0}
    assert evaluate() == {}
    metric = AnsweredMetric()
    metric.process(None, [sample(0, 0)])
    assert metric.evaluate(size=1) == {}
    assert "No prediction has the field 'answered'" in metric.no_result
    with pytest.raises(MissingFieldError, match='expected a gt_label'):
        AnsweredMetric().process(None, [dict(pred_score=torch.ones(2), pred_label=torch.tensor([0]))])
