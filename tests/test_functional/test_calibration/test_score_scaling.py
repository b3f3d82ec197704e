"""Each scaling is fitted into plain numbers, and applied the same in any batch."""

import json

import numpy as np
import pytest
import torch
from scipy.special import softmax

from hybridcls.functional.calibration import SCALINGS, apply_scaling, fit_scaling


@pytest.fixture(scope='module')
def drawn():
    rng = np.random.default_rng(0)
    truth = softmax(rng.normal(0, 2, (3000, 5)), 1)
    labels = np.array([rng.choice(5, p=row) for row in truth])
    sure = softmax(4 * np.log(truth), 1)  # four times too sure
    return torch.from_numpy(sure).float(), torch.from_numpy(labels), torch.from_numpy(truth)


@pytest.mark.parametrize('kind', SCALINGS)
def test_a_scaling_survives_json_and_the_size_of_the_batch(drawn, kind):
    scores, labels, truth = drawn
    scaling = json.loads(json.dumps(fit_scaling(kind, scores[:2000], labels[:2000])))
    assert scaling['kind'] == kind
    got = apply_scaling(scaling, scores[2000:])
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.sum(1), torch.ones(1000))
    assert all(
        bool((apply_scaling(scaling, row[None])[0] == one).all())
        for row, one in zip(scores[2000:2050], got, strict=False)
    )
    error = (got - truth[2000:]).abs().mean()
    assert error < 0.02 if kind != 'none' else error > 0.1


def test_a_temperature_is_that_of_the_logits(drawn):
    scores, labels, _ = drawn
    scaling = fit_scaling('temperature', scores, labels)
    assert scaling['temperature'] == pytest.approx(4, rel=0.05)
    logits = torch.tensor([[64.0, 60.0, -20.0, 3.0, 1.0]])  # of a margin head
    expected = softmax(logits.double().numpy() / scaling['temperature'], 1)
    got = apply_scaling(scaling, logits.softmax(1))
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-6)


def test_half_precision_scores_are_taken():
    assert apply_scaling(dict(kind='temperature', temperature=2.0), torch.tensor([[0.9, 0.1]]).half()).sum() == 1
