import numpy as np
import pytest
import scipy.stats
import torch

from hybridcls.functional.evidential import dirichlet_uncertainty, mixture_uncertainty


def members(count, samples=6, classes=5, sharpness=3.0):
    logits = sharpness * torch.randn(count, samples, classes, generator=torch.Generator().manual_seed(count))
    return logits.double().softmax(-1)


@pytest.mark.parametrize('count', [1, 2, 7])
def test_the_decomposition_by_scipy(count):
    probabilities = members(count)
    values = mixture_uncertainty(probabilities)
    mean = probabilities.mean(0).numpy()
    torch.testing.assert_close(values.total, torch.from_numpy(scipy.stats.entropy(mean, axis=1)))
    torch.testing.assert_close(
        values.aleatoric, torch.from_numpy(scipy.stats.entropy(probabilities.numpy(), axis=2).mean(0))
    )
    divergence = scipy.stats.entropy(probabilities.numpy(), np.broadcast_to(mean, probabilities.shape), axis=2)
    torch.testing.assert_close(values.epistemic, torch.from_numpy(divergence.mean(0)))


def test_two_members_disagree_by_the_jensen_shannon_divergence():
    one, other = members(2)
    expected = scipy.spatial.distance.jensenshannon(one.numpy(), other.numpy(), axis=1) ** 2
    torch.testing.assert_close(mixture_uncertainty(torch.stack([one, other])).epistemic, torch.from_numpy(expected))


def test_equal_members_never_disagree():
    same = members(1, samples=1000).float().expand(9, -1, -1)
    values = mixture_uncertainty(same)
    assert values.epistemic.dtype == torch.float32
    assert (values.epistemic >= 0).all()
    assert (values.epistemic < 1e-12).all()


def test_certain_members():
    values = mixture_uncertainty(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]], dtype=torch.float16))
    torch.testing.assert_close(torch.cat(values), torch.tensor([0.0, 1.0, 1.0]) * np.log(2).astype(np.float32))


def test_members_that_are_uncertain_themselves():
    """An ensemble of evidential networks: each member's mutual information is epistemic, too."""
    evidence = torch.rand(4, 6, 3, generator=torch.Generator().manual_seed(0)).double() * 10
    alpha = evidence + 1
    scores = alpha / alpha.sum(-1, keepdim=True)
    own = [dirichlet_uncertainty(member) for member in evidence]
    values = mixture_uncertainty(scores, torch.stack([member.aleatoric for member in own]))
    inner = torch.stack([member.epistemic for member in own]).mean(0)
    torch.testing.assert_close(values.epistemic, mixture_uncertainty(scores).epistemic + inner)
    torch.testing.assert_close(values.total, mixture_uncertainty(scores).total)
