"""SelectiveMetric: AURC, E-AURC and risk at coverage, against the formulas."""

import math

import pytest
import torch
from sklearn.metrics import roc_auc_score

from hybridcls.evaluation import SelectiveMetric
from hybridcls.functional import area_under_risk_coverage, risk_coverage
from hybridcls.functional.metrics import coverage_at_risk


def predictions(count=50):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(count, 3, generator=generator).softmax(1)
    labels = torch.randint(0, 3, (count,), generator=generator)
    return [
        dict(pred_score=score, gt_label=label.view(1), total=uncertainty)
        for score, label, uncertainty in zip(scores, labels, torch.rand(count, generator=generator), strict=True)
    ]


def evaluated(samples, size=None, **keys):
    metric = SelectiveMetric(**keys)
    metric.process(None, samples)
    return metric.evaluate(len(samples) if size is None else size)


def test_scores_equal_the_formulas():
    samples = predictions()
    wrong = torch.tensor([int(s['pred_score'].argmax()) != int(s['gt_label']) for s in samples]).double()
    result = evaluated(samples, scores=('least_confidence', 'total'), coverages=(0.5, 1.0))
    for name, uncertainty in (
        ('total', torch.stack([s['total'] for s in samples])),
        ('least_confidence', torch.stack([1 - s['pred_score'].double().max() for s in samples])),
    ):
        assert result[f'selective/aurc_{name}'] == pytest.approx(
            100 * area_under_risk_coverage(uncertainty, wrong).item()
        )
        assert result[f'selective/risk50_{name}'] == pytest.approx(100 * risk_coverage(uncertainty, wrong)[24].item())
        assert result[f'selective/risk100_{name}'] == pytest.approx(100 * wrong.mean().item())
        assert 0 < result[f'selective/eaurc_{name}'] < result[f'selective/aurc_{name}']


def test_failure_auroc_equals_scikit_learn():
    samples = [{**sample, 'total': sample['total'].mul(5).round()} for sample in predictions()]  # with ties
    wrong = [int(s['pred_score'].argmax()) != int(s['gt_label']) for s in samples]
    result = evaluated(samples, scores=('total',), failure_auroc=True)
    assert result['selective/auroc_total'] == pytest.approx(
        100 * roc_auc_score(wrong, [float(s['total']) for s in samples])
    )
    metric = SelectiveMetric(scores='total', failure_auroc=True)
    assert metric.directions['auroc_total'] == 'greater'
    metric.process(None, [sample for sample, is_wrong in zip(samples, wrong, strict=True) if is_wrong])
    assert 'selective/auroc_total' not in metric.evaluate(sum(wrong))
    assert metric.no_result == f'Expected right and wrong predictions, got {sum(wrong)} wrong ones.'
    assert 'selective/auroc_total' not in evaluated(samples, scores='total')


def test_the_excess_over_the_formula_for_many_images():
    samples = predictions()
    wrong = torch.tensor([int(s['pred_score'].argmax()) != int(s['gt_label']) for s in samples]).double()
    risk = wrong.mean().item()
    result = evaluated(samples, eaurc='asymptotic')
    expected = result['selective/aurc_least_confidence'] - 100 * (risk + (1 - risk) * math.log(1 - risk))
    assert result['selective/eaurc_least_confidence'] == pytest.approx(expected)
    other = evaluated(samples)['selective/eaurc_least_confidence']
    assert result['selective/eaurc_least_confidence'] != pytest.approx(other)
    with pytest.raises(ValueError, match=r"SelectiveMetric: expected eaurc to be one of .*, got 'geifman'"):
        SelectiveMetric(eaurc='geifman')


def test_unknown_images_are_left_out_or_are_errors():
    samples = predictions()
    unknown = [{**sample, 'gt_label': torch.tensor([-1])} for sample in samples[:10]]
    assert evaluated([*samples, *unknown]) == evaluated(samples)
    counted = evaluated([*samples, *unknown], coverages=(1.0,), unknown_is_error=True)
    known = evaluated(samples, coverages=(1.0,))
    assert counted['selective/risk100_least_confidence'] == pytest.approx(
        (known['selective/risk100_least_confidence'] * 50 + 100 * 10) / 60
    )


def test_padded_samples_are_dropped():
    samples = predictions()
    assert evaluated([*samples, *samples[:3]], size=50) == evaluated(samples)


def test_no_image_and_invalid_arguments():
    assert SelectiveMetric().evaluate(size=0) == {}
    with pytest.raises(ValueError, match=r'SelectiveMetric: expected coverages in \(0, 1\], got 1.5'):
        SelectiveMetric(coverages=(1.5,))
    with pytest.raises(ValueError, match=r"SelectiveMetric: expected score to be one of .*, got 'uncertainty'"):
        SelectiveMetric(scores='uncertainty')


@pytest.mark.parametrize(
    ('images', 'coverage', 'answered'),
    [(5, 0.5, 3), (15, 0.8, 12), (10, 0.7, 7), (3, 0.1, 1), (100, 0.07, 7), (10, 0.71, 8), (4, 1.0, 4)],
)
def test_coverage_is_rounded_up_to_whole_images(images, coverage, answered):
    """All are right but the one that is the last to be answered at this coverage."""
    metric = SelectiveMetric(coverages=(coverage,))
    surest = torch.linspace(0.9, 0.6, images)
    metric.process(
        None,
        [
            dict(pred_score=torch.stack([p, 1 - p]), gt_label=torch.tensor([int(rank + 1 == answered)]))
            for rank, p in enumerate(surest)
        ],
    )
    assert metric.evaluate(images)[f'selective/risk{100 * coverage:g}_least_confidence'] == pytest.approx(
        100 / answered
    )


def test_coverage_at_a_stated_risk():
    samples = predictions()
    wrong = torch.tensor([int(s['pred_score'].argmax()) != int(s['gt_label']) for s in samples])
    metric = SelectiveMetric(scores='total', risks=(0.05, 0.5))
    assert metric.directions['coverage_risk5_total'] == 'greater'
    result = evaluated(samples, scores='total', risks=(0.05, 0.5))
    expected = coverage_at_risk(torch.stack([s['total'] for s in samples]), wrong, 0.5)
    assert result['selective/coverage_risk50_total'] == pytest.approx(100 * expected.item())
    with pytest.raises(ValueError, match=r'^SelectiveMetric: expected risks in \[0, 1\], got 5'):
        SelectiveMetric(risks=(5,))


def test_intervals_hold_the_results():
    result = evaluated(predictions(), confidence=0.9, failure_auroc=True, risks=(0.3,))
    for name in [name for name in result if not name.endswith(('_low', '_high'))]:
        assert result[f'{name}_low'] <= result[f'{name}_high'], name
    assert result['selective/risk80_least_confidence_low'] < result['selective/risk80_least_confidence']
    assert set(result) == {
        f'selective/{name}' for name in SelectiveMetric(confidence=0.9, failure_auroc=True, risks=(0.3,)).directions
    }


def test_scores_that_are_nan_are_wrong():
    """The largest of them would be the first, and right where the label is 0."""
    diverged = [dict(pred_score=torch.full((3,), torch.nan), gt_label=torch.tensor([0]))] * 4
    assert evaluated(diverged)['selective/aurc_least_confidence'] == 100


def test_scores_are_compared_in_float64():
    scores = torch.tensor([[0.7, 0.3], [0.7 - 1e-10, 0.3 + 1e-10]], dtype=torch.float64)
    samples = [dict(pred_score=row, gt_label=torch.tensor([label])) for row, label in zip(scores, (0, 1), strict=True)]
    assert evaluated(samples)['selective/aurc_least_confidence'] == 25
