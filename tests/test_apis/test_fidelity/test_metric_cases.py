import pytest
import torch
from fidelity_checks import CPU, assert_faithful

from hybridcls.apis.fidelity import Place, metric_cases
from hybridcls.apis.fidelity.case_comparison import deviation
from hybridcls.apis.fidelity.stored_numbers import stored_numbers

DOUBLE = Place(CPU, torch.float64)


@pytest.mark.parametrize('case', [case.name for case in metric_cases.CASES])
def test_within_what_is_allowed(case):
    assert_faithful(case, torch.float64)


def farthest(found, name):
    expected = stored_numbers(name)
    return max(deviation(found[key].detach().numpy(), expected[key]) for key in expected)


def test_another_vote_is_noticed():
    found = metric_cases._of_queries(('top1', 'top5'), True, type='KNNAccuracy', k=10, topk=(1, 5))(DOUBLE)
    assert farthest(found, 'KNNAccuracy') > 1e-3


def test_a_smaller_subspace_of_vim_is_noticed():
    pytest.importorskip('pytorch_ood', reason="needs pytorch-ood: pip install 'hybridcls[ood]'")
    numbers = stored_numbers('FeatureOODMetric')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metric_cases.METRICS, 'build', lambda cfg, build=metric_cases.METRICS.build: build(
            dict(cfg, detectors=[dict(type='vim', d=3), 'mahalanobis'])))  # fmt: skip
        found = metric_cases._detected(DOUBLE)
    assert abs(found['auroc_vim'].item() - numbers['auroc_vim'].item()) > 1
    assert found['auroc_mahalanobis'].item() == pytest.approx(numbers['auroc_mahalanobis'].item())


def test_the_metrics_have_something_to_tell_apart():
    """No result is at an end of its scale, where a wrong formula may be right."""
    for name in ('OODMetric', 'RetrievalMetric', 'KNNAccuracy'):
        assert any(1 < value < 99 for value in stored_numbers(name).values()), name
    assert 0.2 < metric_cases.confidences()[1].mean() < 0.9
