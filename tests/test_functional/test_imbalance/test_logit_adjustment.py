"""Logit adjustment: on a distribution whose best classifier is known, and against cross entropy of moved logits."""

import pytest
import torch
import torch.nn.functional as F

from hybridcls.functional.imbalance import adjustment_term, log_priors


def test_the_best_classifier_of_error_rates_by_class():
    """Logits of a perfect model are log p(x, y); without the prior they are log p(x | y), all classes alike."""
    generator = torch.Generator().manual_seed(0)
    likelihood = torch.rand(50, 3, generator=generator, dtype=torch.float64)
    counts = torch.tensor([900, 90, 10])
    joint = likelihood * counts / counts.sum()
    adjusted = joint.log() - log_priors(counts)
    assert (adjusted.argmax(1) == likelihood.argmax(1)).all()
    assert (joint.argmax(1) != likelihood.argmax(1)).any()


def test_a_class_without_images_counts_as_one():
    torch.testing.assert_close(log_priors(torch.tensor([0, 3])), torch.tensor([0.25, 0.75]).double().log())


@pytest.mark.parametrize('soft', [False, True])
def test_the_term_is_the_difference_of_two_cross_entropies(soft):
    torch.manual_seed(0)
    logits, bias = torch.randn(6, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    targets = torch.rand(6, 4, dtype=torch.float64).softmax(1) if soft else torch.randint(4, (6,))
    expected = F.cross_entropy(logits + bias, targets, reduction='none') - F.cross_entropy(
        logits, targets, reduction='none'
    )
    torch.testing.assert_close(adjustment_term(logits.log_softmax(1), targets, bias), expected)
