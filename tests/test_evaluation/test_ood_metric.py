"""OODMetric: AUROC and FPR of several scores, against scikit-learn."""

import re

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmpretrain.structures import DataSample
from processes import run_processes
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from hybridcls.evaluation import OODMetric
from hybridcls.registry import METRICS


def predictions(count=60, seed=0):
    """Three classes and a fourth, unknown one; its uncertainty is higher, with overlap and ties."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, 3, (count,), generator=generator)
    uncertainty = (torch.rand(count, generator=generator) + 0.5 * (labels < 0)).mul(10).round() / 10
    scores = torch.randn(count, 3, generator=generator).softmax(1)
    return [dict(gt_label=labels[i : i + 1], epistemic=uncertainty[i], pred_score=scores[i]) for i in range(count)]


def evaluated(metric, samples, size=None):
    for start in range(0, len(samples), 16):
        metric.process(None, samples[start : start + 16])
    return metric.evaluate(len(samples) if size is None else size)


def test_auroc_equals_scikit_learn():
    samples = predictions()
    unknown = [int(sample['gt_label']) < 0 for sample in samples]
    result = evaluated(OODMetric(scores=('epistemic', 'least_confidence')), samples)
    assert list(result) == [
        'ood/auroc_epistemic',
        'ood/fpr95_epistemic',
        'ood/auroc_least_confidence',
        'ood/fpr95_least_confidence',
    ]
    assert result['ood/auroc_epistemic'] == pytest.approx(
        100 * roc_auc_score(unknown, [float(sample['epistemic']) for sample in samples])
    )
    assert result['ood/auroc_least_confidence'] == pytest.approx(
        100 * roc_auc_score(unknown, [1 - float(sample['pred_score'].double().max()) for sample in samples])
    )
    assert result['ood/auroc_epistemic'] > 70


@pytest.mark.parametrize('recall', [0.95, 0.8])
def test_fpr_with_unknown_as_positive_equals_scikit_learn(recall):
    samples = predictions()
    unknown = [int(sample['gt_label']) < 0 for sample in samples]
    false, true, _ = roc_curve(unknown, [float(sample['epistemic']) for sample in samples], drop_intermediate=False)
    metric = OODMetric('epistemic', recall=recall, positive='unknown')
    name = f'fpr{100 * recall:g}_ood_positive_epistemic'
    result = evaluated(metric, samples)[f'ood/{name}']
    assert result == pytest.approx(100 * false[(true >= recall).argmax()])
    assert result != evaluated(OODMetric('epistemic', recall=recall), samples)[f'ood/fpr{100 * recall:g}_epistemic']
    assert metric.directions[name] == 'less'


def test_recall_is_in_the_name():
    assert 'ood/fpr80_epistemic' in evaluated(OODMetric('epistemic', recall=0.8), predictions())


def test_padded_samples_are_dropped():
    samples = predictions()
    assert evaluated(OODMetric('epistemic'), [*samples, *samples[:7]], size=60) == evaluated(
        OODMetric('epistemic'), samples
    )


def test_diverged_model_scores_worst():
    samples = [{**sample, 'epistemic': torch.tensor(torch.nan)} for sample in predictions()]
    assert evaluated(OODMetric('epistemic'), samples) == {'ood/auroc_epistemic': 0.0, 'ood/fpr95_epistemic': 100.0}


def test_only_known_or_unknown_images_have_no_result():
    known = [sample for sample in predictions() if int(sample['gt_label']) >= 0]
    assert evaluated(OODMetric('epistemic'), known) == {}
    assert OODMetric().evaluate(size=0) == {}


def test_samples_go_through_mmengines_evaluator():
    samples = []
    for entry in predictions():
        sample = DataSample().set_gt_label(entry['gt_label']).set_pred_score(entry['pred_score'])
        sample.set_field(entry['epistemic'], 'epistemic')
        samples.append(sample)
    evaluator = Evaluator(METRICS.build(dict(type='hybridcls.OODMetric', scores=['epistemic'])))
    evaluator.process(samples)
    assert evaluator.evaluate(60) == evaluated(OODMetric('epistemic'), predictions())


@pytest.mark.parametrize('keys', [dict(scores='msp'), dict(recall=0.0), dict(recall=1.5), dict(positive='ood')])
def test_invalid_arguments_are_errors(keys):
    with pytest.raises(ValueError, match=r'OODMetric: expected (score|recall|positive) '):
        OODMetric(**keys)


def work(rank, folder):
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    samples = predictions(61)
    own = [samples[index % 61] for index in range(rank, 62, 2)]  # the sampler repeats one image
    result = evaluated(OODMetric(('epistemic', 'entropy')), own, size=61)
    torch.save(result, f'{folder}/{rank}.pt')
    torch.distributed.destroy_process_group()


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes_count_each_image_once(tmp_path):
    run_processes(work, tmp_path)
    expected = evaluated(OODMetric(('epistemic', 'entropy')), predictions(61))
    for rank in range(2):
        assert torch.load(tmp_path / f'{rank}.pt') == pytest.approx(expected)


def test_both_sides_and_the_areas_under_precision_recall_curves():
    samples = predictions()
    unknown = [int(sample['gt_label']) < 0 for sample in samples]
    scores = [float(sample['epistemic']) for sample in samples]
    metric = OODMetric('epistemic', positive='both', aupr=True)
    result = evaluated(metric, samples)
    assert list(result) == [f'ood/{name}' for name in metric.directions]
    assert result['ood/aupr_unknown_epistemic'] == pytest.approx(100 * average_precision_score(unknown, scores))
    turned = average_precision_score([not one for one in unknown], [-score for score in scores])
    assert result['ood/aupr_known_epistemic'] == pytest.approx(100 * turned)
    for side, name in (('known', 'fpr95'), ('unknown', 'fpr95_ood_positive')):
        of_side = evaluated(OODMetric('epistemic', positive=side), samples)
        assert result[f'ood/{name}_epistemic'] == of_side[f'ood/{name}_epistemic']


def test_intervals_are_scipys_bootstrap():
    samples = predictions(80)
    unknown = [int(sample['gt_label']) < 0 for sample in samples]
    scores = [float(sample['epistemic']) for sample in samples]
    result = evaluated(OODMetric('epistemic', confidence=0.95), samples)
    expected = stats.bootstrap(
        (unknown, scores), roc_auc_score, paired=True, vectorized=False, method='percentile', n_resamples=1000, rng=0
    ).confidence_interval
    assert result['ood/auroc_epistemic_low'] == pytest.approx(100 * expected.low, abs=1.5)
    assert result['ood/auroc_epistemic_high'] == pytest.approx(100 * expected.high, abs=1.5)


def test_a_single_unknown_image_has_no_interval():
    """A third of the resamples lack it."""
    samples = [sample for sample in predictions() if int(sample['gt_label']) >= 0]
    metric = OODMetric('epistemic', confidence=0.95)
    result = evaluated(metric, [*samples, dict(samples[0], gt_label=torch.tensor([-1]))])
    assert 'ood/auroc_epistemic' in result
    assert 'ood/auroc_epistemic_low' not in result
    found = re.fullmatch(
        r'There is no interval because (\d+) of 1000 bootstrap resamples have no finite value\.', metric.no_result
    )
    assert int(found[1]) == pytest.approx(1000 * (1 - 1 / (len(samples) + 1)) ** (len(samples) + 1), abs=50)


def test_the_warning_names_the_one_reason_and_all_its_results(caplog):
    samples = [
        dict(epistemic=torch.tensor(score), pred_score=torch.tensor([0.5, 0.5]), gt_label=torch.tensor([label]))
        for score, label in ((0.1, 0), (0.9, -1))  # all are told apart: each resample says 100 %
        for _ in range(50)
    ]
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        evaluated(OODMetric('epistemic', confidence=0.9), samples)
        evaluated(OODMetric('epistemic', confidence=0.9), samples[48:52])
    finally:
        logger.removeHandler(caplog.handler)
    names = ', '.join(f'{name}_epistemic_{end}' for name in ('auroc', 'fpr95') for end in ('low', 'high'))
    assert [record.getMessage() for record in caplog.records] == [
        f'OODMetric: no {names}. There is no interval because at least 90 % of the bootstrap resamples of 100 images '
        'give the same value.',
        f'OODMetric: no {names}. An interval at confidence=0.9 needs at least 5 images, got 4.',
    ]


def test_scores_are_compared_in_float64():
    scores = torch.tensor([[0.7, 0.3], [0.7 - 1e-10, 0.3 + 1e-10]], dtype=torch.float64)
    samples = [dict(pred_score=row, gt_label=torch.tensor([label])) for row, label in zip(scores, (0, -1), strict=True)]
    assert evaluated(OODMetric(), samples)['ood/auroc_least_confidence'] == 100
