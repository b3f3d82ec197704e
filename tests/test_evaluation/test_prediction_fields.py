"""Fields that metrics read from a prediction, and the errors for missing ones."""

import math

import pytest
import torch

from hybridcls.evaluation.prediction_fields import MissingFieldError, check_scores, label_of, read_scores


def sample(**fields):
    return dict(pred_score=torch.tensor([0.7, 0.2, 0.1]), gt_label=torch.tensor([1]), **fields)


def test_scores_of_any_classifier():
    entropy = -sum(p * math.log(p) for p in (0.7, 0.2, 0.1))
    assert read_scores('M', sample(), ('least_confidence', 'entropy')) == pytest.approx([0.3, entropy])
    certain = dict(pred_score=torch.tensor([1.0, 0.0]))
    assert read_scores('M', certain, ('least_confidence', 'entropy')) == [0.0, 0.0]


def test_scores_that_a_model_writes():
    assert read_scores('M', sample(epistemic=torch.tensor(0.25), vacuity=0.5), ('vacuity', 'epistemic')) == [0.5, 0.25]


@pytest.mark.parametrize(('label', 'known'), [(0, True), (2, True), (3, False), (-1, False)])
def test_labels_without_a_class_are_unknown(label, known):
    assert label_of('M', {**sample(), 'gt_label': torch.tensor([label])}) == (label, known)


def test_missing_field_is_named():
    with pytest.raises(
        MissingFieldError, match=r"^M: expected 'epistemic' in the predictions.*Evidential.*'least_confidence'"
    ):
        read_scores('M', sample(), ('epistemic',))
    with pytest.raises(MissingFieldError, match='M: expected a pred_score in the predictions, got no field'):
        read_scores('M', {}, ('entropy',))
    with pytest.raises(MissingFieldError, match=r'^M: expected a gt_label for a/1\.png, got .*--out FILE.*MarkUnknown'):
        label_of('M', {**sample(img_path='a/1.png'), 'gt_label': None})
    with pytest.raises(MissingFieldError, match=r'^M: expected one gt_label for sample 7, got 2\. .*MultiLabelMetric'):
        label_of('M', {**sample(sample_idx=7), 'gt_label': torch.tensor([1, 2])})


def test_scores_are_checked():
    assert check_scores('M', 'total') == ('total',)
    with pytest.raises(ValueError, match=r"expected score to be one of .*, got 'epistemi'.* Did you mean 'epistemic'"):
        check_scores('M', ('total', 'epistemi'))
    with pytest.raises(ValueError, match='expected at least one score'):
        check_scores('M', ())


def test_the_order_of_the_classes_does_not_change_the_entropy():
    probabilities = torch.randn(10, generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(0)
    orders = [torch.randperm(10, generator=torch.Generator().manual_seed(seed)) for seed in range(20)]
    assert len({read_scores('M', dict(pred_score=probabilities[order]), ('entropy',))[0] for order in orders}) == 1
