"""Predictions of several members, averaged, beside scipy's entropies."""

import pytest
import scipy.stats
import torch
from mmpretrain.structures import DataSample

from hybridcls.models.classifiers.mixture_predictions import aggregate_predictions

SCORES = torch.tensor([[[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], [[0.1, 0.6, 0.3], [0.1, 0.1, 0.8]]])  # T, B, C


def member(scores, **fields):
    samples = []
    for row, score in enumerate(scores):
        samples.append(DataSample().set_pred_score(score))
        for name, values in fields.items():
            samples[-1].set_field(values[row], name, dtype=torch.Tensor)
    return samples


def aggregated(members):
    return aggregate_predictions('me', [DataSample(mark=row) for row in range(2)], members)


def test_the_mean_and_its_entropies():
    samples = aggregated([member(scores) for scores in SCORES])
    for row, sample in enumerate(samples):
        mean = SCORES[:, row].mean(0)
        torch.testing.assert_close(sample.pred_score, mean)
        assert sample.pred_label.tolist() == [int(mean.argmax())]
        total = scipy.stats.entropy(mean)
        aleatoric = scipy.stats.entropy(SCORES[:, row], axis=1).mean()
        assert sample.total.item() == pytest.approx(total, abs=1e-6)
        assert sample.aleatoric.item() == pytest.approx(aleatoric, abs=1e-6)
        assert sample.epistemic.item() == pytest.approx(total - aleatoric, abs=1e-6)
        assert sample.mark == row
    assert samples[1].epistemic.item() == pytest.approx(0, abs=1e-6)  # both members agree


def test_evidential_members_pass_on_what_they_do_not_know():
    aleatoric, vacuity = torch.tensor([0.3, 0.2]), torch.tensor([0.5, 0.25])
    samples = aggregated(
        [member(scores, aleatoric=aleatoric * n, vacuity=vacuity * n) for n, scores in enumerate(SCORES, 1)]
    )
    for row, sample in enumerate(samples):
        assert sample.aleatoric.item() == pytest.approx(1.5 * aleatoric[row].item())
        assert sample.vacuity.item() == pytest.approx(1.5 * vacuity[row].item())
        assert sample.total.item() == pytest.approx(sample.aleatoric.item() + sample.epistemic.item(), abs=1e-6)
        assert sample.total.item() == pytest.approx(scipy.stats.entropy(SCORES[:, row].mean(0)), abs=1e-6)


def test_without_scores_there_is_nothing_to_average():
    with pytest.raises(ValueError, match='me: the head predicts no scores'):
        aggregated([[DataSample(), DataSample()]])


def test_of_several_labels_each_class_is_there_or_not():
    scores = torch.tensor([[[0.9, 0.2, 0.5], [0.1, 0.7, 0.5]], [[0.5, 0.4, 0.5], [0.3, 0.7, 0.5]]])
    low, high = torch.tensor([0.5, 0.2, 0.5]), torch.tensor([0.7, 0.4, 0.7])
    members = [member(own, thresholds=limits.repeat(2, 1)) for own, limits in zip(scores, (low, high), strict=True)]
    samples = aggregated(members)
    assert [sample.pred_label.tolist() for sample in samples] == [[0, 1], [1]]
    for row, sample in enumerate(samples):
        torch.testing.assert_close(sample.pred_score, scores[:, row].mean(0))
        torch.testing.assert_close(sample.thresholds, torch.tensor([0.6, 0.3, 0.6]))
        pairs = torch.stack([scores[:, row], 1 - scores[:, row]], -1)
        total = scipy.stats.entropy(pairs.mean(0), axis=1).sum()
        assert sample.total.item() == pytest.approx(total, abs=1e-6)
        assert sample.aleatoric.item() == pytest.approx(scipy.stats.entropy(pairs, axis=2).mean(0).sum(), abs=1e-6)
