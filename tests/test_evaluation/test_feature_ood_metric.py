"""FeatureOODMetric: detectors of pytorch-ood against formulas by hand, where the package is installed."""

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from hybridcls.evaluation import FeatureOODMetric


def clouds(count, seed, unknown=0):
    """Three classes around 2 e_i, and unknown images around -2 e_3."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    labels[count - unknown :] = -1
    middles = 2 * torch.cat([torch.eye(8)[:3], -torch.eye(8)[3:4]])
    return middles[labels] + torch.randn(count, 8, generator=generator), labels


def test_without_the_extra_the_command_is_named(monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'hybridcls\[ood\]'"):
        FeatureOODMetric()


class TestWithTheExtra:
    """Skipped without pytorch-ood."""

    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip('pytorch_ood', reason='the extra ood is not installed')

    def evaluated(self, rows, labels, bank, layer=None, size=None, **keys):
        metric = FeatureOODMetric(**keys)
        if bank is not None:
            metric.set_bank(*bank)
        if layer is not None:
            metric.set_classifier(layer.weight, layer.bias)
        samples = [dict(embedding=row, gt_label=label.view(1)) for row, label in zip(rows, labels, strict=True)]
        metric.process(None, samples)
        return metric.evaluate(len(labels) if size is None else size), metric

    def test_scores_equal_the_formulas(self):
        bank = clouds(90, 0)
        rows, labels = clouds(80, 1, unknown=30)
        layer = nn.Linear(8, 3)
        detectors = [dict(type='knn', k=5), 'mahalanobis', dict(type='ViM', d=3)]
        result, metric = self.evaluated(rows, labels, bank, layer, detectors=detectors, aupr=True)
        assert set(result) == {f'ood/{name}' for name in metric.directions}
        features = bank[0]
        normalized = nn.functional.normalize
        scores = {'knn': torch.cdist(normalized(rows), normalized(features)).topk(5, largest=False).values[:, -1]}
        means = torch.stack([features[bank[1] == number].mean(0) for number in range(3)])
        centered = features - means[bank[1]]
        shared = torch.linalg.inv((centered.T @ centered).double())
        apart = (rows.unsqueeze(1) - means).double()
        scores['mahalanobis'] = torch.einsum('ncd,de,nce->nc', apart, shared, apart).amin(1)
        weight, bias = layer.weight.detach(), layer.bias.detach()
        origin = -torch.linalg.pinv(weight) @ bias
        _, _, axes = torch.linalg.svd((features - origin).double(), full_matrices=False)
        residual = ((rows - origin).double() @ axes[3:].T).norm(dim=1)
        of_bank = ((features - origin).double() @ axes[3:].T).norm(dim=1)
        alpha = (features @ weight.T + bias).amax(1).mean() / of_bank.mean()
        scores['vim'] = alpha * residual - (rows @ weight.T + bias).logsumexp(1)
        for name, values in scores.items():
            assert result[f'ood/auroc_{name}'] == pytest.approx(100 * roc_auc_score(labels < 0, values), abs=1e-3), name
        assert result['ood/auroc_knn'] > 80

    def test_every_detector_on_features_works(self):
        from hybridcls.evaluation.feature_ood_metric import _detectors

        assert {'knn', 'mahalanobis', 'rmd', 'vim', 'gmm', 'she', 'nnguide', 'fdbd', 'nci'} <= {*_detectors()}
        names = ['knn', 'mahalanobis', 'rmd', 'vim', 'gmm', 'she', 'nnguide', 'fdbd', 'nci']
        bank, labels = clouds(60, 0)
        result, _ = self.evaluated(*clouds(40, 1, unknown=10), (bank, 5 * labels), detectors=names, positive='both')
        assert len(result) == 3 * len(names)  # the unknown ones have no class of the bank; its classes are 0, 5, 10
        assert all(0 <= value <= 100 for value in result.values())

    def test_the_bank_says_what_is_known_and_a_broken_embedding_is_wrong(self):
        bank, labels = clouds(60, 0)
        rows, own = clouds(30, 1)
        everything, metric = self.evaluated(rows, own, (bank, labels), detectors='knn')
        assert everything == {}
        assert metric.no_result.startswith('Expected images of known and of unknown categories, got 30 known and 0')
        fewer = (bank[labels != 2], labels[labels != 2])
        result, _ = self.evaluated(rows, own, fewer, detectors='knn')
        broken = rows.clone()
        broken[own == 2] = torch.nan  # unknown, and taken for known
        worst, _ = self.evaluated(broken, own, fewer, detectors='knn')
        assert worst == {'ood/auroc_knn': 0, 'ood/fpr95_knn': 100}
        assert result['ood/auroc_knn'] > 50
        with_padding = torch.cat([rows, rows[:7]]), torch.cat([own, own[:7]])
        assert self.evaluated(*with_padding, fewer, size=30, detectors='knn')[0] == result

    def test_wrong_settings_are_named(self):
        with pytest.raises(ValueError, match=r"^FeatureOODMetric: expected detector .* got 'vimm'. Did you mean 'vim'"):
            FeatureOODMetric(['vimm'])
        with pytest.raises(TypeError, match=r"^FeatureOODMetric: knn: unknown key 'n'"):
            FeatureOODMetric(dict(type='knn', n=3))
        result, metric = self.evaluated(*clouds(30, 1), None)
        assert result == {}
        assert metric.no_result == 'There is no bank to fit detectors to: add EmbeddingBankHook.'

    def test_a_detector_that_cannot_be_fitted_does_not_stop_the_others(self):
        rows, labels = clouds(40, 1, unknown=10)
        never_predicted = nn.Linear(8, 3)
        nn.init.zeros_(never_predicted.weight)
        result, metric = self.evaluated(rows, labels, clouds(30, 0), never_predicted, detectors=['she', 'knn'])
        assert set(result) == {'ood/auroc_knn', 'ood/fpr95_knn'}
        assert 'she cannot be fitted to this bank' in metric.no_result
        assert result == self.evaluated(rows, labels, clouds(30, 0), detectors='knn')[0]
        assert self.evaluated(rows, labels, clouds(30, 0), never_predicted, detectors='she')[0] == {}

    def test_a_detector_without_a_finite_score_has_no_result(self):
        """Nothing is left for ViM beside a subspace of all 8 dimensions: an AUROC of 0 would be no measurement."""
        rows, labels = clouds(20, 1, unknown=5)
        detectors = ['knn', dict(type='vim', d=8)]
        result, metric = self.evaluated(rows, labels, clouds(30, 0), nn.Linear(8, 3), detectors=detectors)
        assert set(result) == {'ood/auroc_knn', 'ood/fpr95_knn'}
        assert (
            metric.no_result
            == 'vim has no finite score with this bank. Set its d below 8, the width of the embeddings.'
        )

    def test_each_detector_once(self):
        with pytest.raises(ValueError, match=r'expected each detector once.*got knn, knn'):
            FeatureOODMetric(['knn', dict(type='KNN', k=3)])
