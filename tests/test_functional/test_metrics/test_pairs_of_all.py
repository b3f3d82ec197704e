import importlib

import pytest
import torch

from hybridcls.functional import accept_rates_of_all_pairs, true_accept_rates

module = importlib.import_module('hybridcls.functional.metrics.pairs_of_all')

RATES = [0.0, 1e-3, 1e-2, 0.1, 0.5, 0.8, 0.95, 1.0]  # thresholds on both sides of 0


def clouds(count=150, classes=9, width=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=generator)
    class_weights = torch.randn(classes, width, generator=generator)
    return class_weights[labels] + torch.randn(count, width, generator=generator), labels


def all_of_them(rows, labels):
    """The list of all pairs' cosines, in the float32 numbers of one matrix, and whether they are genuine."""
    unit = rows / rows.norm(dim=1, keepdim=True)
    first, second = torch.triu_indices(len(rows), len(rows), 1)
    return (unit @ unit.T)[first, second], labels[first] == labels[second]


@pytest.mark.parametrize('rows', [7, 64, 1024])
def test_streaming_counts_what_a_list_of_all_pairs_holds(monkeypatch, rows):
    monkeypatch.setattr(module, '_ROWS', rows)
    embeddings, labels = clouds()
    cosines, same = all_of_them(embeddings.double(), labels)
    found = accept_rates_of_all_pairs(embeddings, labels, RATES)
    assert (found.genuine, found.impostor) == (same.sum(), (~same).sum())
    assert found.rates.tolist() == true_accept_rates(cosines[same], cosines[~same], RATES).tolist()
    assert 0.05 < found.rates[2] < found.rates[3] < 1


@pytest.mark.parametrize('sign', [1.0, -1.0])
def test_ties_and_zeros_are_accepted_together(sign):
    # Four directions: cosines of -1, 0 and 1 alone.
    generator = torch.Generator().manual_seed(1)
    axes = sign * torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    embeddings = axes[torch.randint(0, 4, (60,), generator=generator)]
    labels = torch.randint(0, 3, (60,), generator=generator)
    cosines, same = all_of_them(embeddings, labels)
    assert (
        accept_rates_of_all_pairs(embeddings, labels, RATES).rates.tolist()
        == true_accept_rates(cosines[same], cosines[~same], RATES).tolist()
    )


def test_cosines_that_differ_in_the_last_bit_are_told_apart():
    # Cosines to the first row are 1 - n * 2^-23 or so: one bin of the first pass.
    angles = torch.arange(1.0, 200.0).double().mul(2.0**-24).sqrt()
    embeddings = torch.cat([torch.tensor([[1.0, 0.0]]), torch.stack([angles.cos(), angles.sin()], 1).float()])
    labels = torch.arange(200) // 2
    unit = torch.nn.functional.normalize(embeddings)
    first, second = torch.triu_indices(200, 200, 1)
    cosines, same = (unit @ unit.T)[first, second], labels[first] == labels[second]
    found = accept_rates_of_all_pairs(embeddings, labels, [0.01, 0.1]).rates
    assert found.tolist() == true_accept_rates(cosines[same], cosines[~same], [0.01, 0.1]).tolist()


def test_rows_that_are_not_finite_are_wrong_in_all_their_pairs():
    embeddings, labels = clouds()
    embeddings[[3, 40]] = torch.tensor([[torch.nan], [torch.inf]])
    first, second = torch.triu_indices(150, 150, 1)
    cosines, same = all_of_them(embeddings.double(), labels)
    bad = torch.isin(first, torch.tensor([3, 40])) | torch.isin(second, torch.tensor([3, 40]))
    cosines = torch.where(bad, torch.where(same, -2.0, 2.0), cosines)
    assert (
        accept_rates_of_all_pairs(embeddings, labels, RATES).rates.tolist()
        == true_accept_rates(cosines[same], cosines[~same], RATES).tolist()
    )
    everything = accept_rates_of_all_pairs(embeddings * torch.nan, labels, [0.1])
    assert everything.rates.tolist() == [0.0]


@pytest.mark.parametrize('labels', [[1, 1, 1], [1, 2, 3], [1], []])
def test_without_pairs_of_one_kind_there_is_no_rate(labels):
    assert accept_rates_of_all_pairs(torch.ones(len(labels), 2), torch.tensor(labels).long(), [0.1]).rates.isnan().all()


def test_a_rate_beyond_one_is_answered():
    with pytest.raises(ValueError, match=r'expected rate in .*, got 1.5'):
        accept_rates_of_all_pairs(torch.ones(2, 2), torch.tensor([1, 2]), [1.5])
