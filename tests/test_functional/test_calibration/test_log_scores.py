"""The logarithm of probabilities stands for logits."""

import numpy as np
import torch
from scipy.special import log_softmax

from hybridcls.functional.calibration import log_scores


def test_differences_are_those_of_the_logits():
    logits = np.random.default_rng(0).normal(0, 8, (50, 7))
    scores = torch.from_numpy(np.exp(log_softmax(logits, 1))).float()
    got = log_scores(scores).numpy()
    np.testing.assert_allclose(got - got[:, :1], logits - logits[:, :1], atol=2e-5)


def test_zeros_are_finite_in_each_precision():
    for dtype, least in ((torch.float32, -103.28), (torch.float64, -744.44)):
        got = log_scores(torch.tensor([1.0, 0.0], dtype=dtype))
        assert got.dtype == torch.float64
        np.testing.assert_allclose(got.numpy(), [0, least], atol=0.01)
