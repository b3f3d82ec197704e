import mpmath
import numpy as np
import pytest
import scipy.stats
import torch

from hybridcls.functional import dirichlet_entropy
from hybridcls.functional.evidential import dirichlet_uncertainty

EVIDENCE = torch.tensor([[2.0, 0.5, 0.1], [0.0, 0.0, 0.0], [7.0, 30.0, 1e-3], [0.2, 5.0, 400.0]])


def to_sixty_digits(evidence):
    """Vacuity, expected entropy, mutual information and total entropy from their definitions."""
    with mpmath.workdps(60):
        alpha = [mpmath.mpf(e) + 1 for e in evidence]
        strength = mpmath.fsum(alpha)
        mean = [a / strength for a in alpha]
        total = -mpmath.fsum(p * mpmath.log(p) for p in mean)
        expected = mpmath.fsum(
            p * (mpmath.digamma(strength + 1) - mpmath.digamma(a + 1)) for p, a in zip(mean, alpha, strict=True)
        )
        return [float(value) for value in (len(alpha) / strength, expected, total - expected, total)]


def test_draws_from_the_distribution():
    generator = np.random.default_rng(0)
    values = dirichlet_uncertainty(EVIDENCE)
    for row, evidence in enumerate(EVIDENCE.double().numpy()):
        draws = generator.dirichlet(evidence + 1, size=400_000)
        entropies = scipy.stats.entropy(draws, axis=1)
        noise = 5 * entropies.std() / 400_000**0.5
        assert values.aleatoric[row].item() == pytest.approx(entropies.mean(), abs=noise)
        # Mutual information is the mean divergence of a draw from the mean.
        divergence = scipy.stats.entropy(draws, np.broadcast_to(draws.mean(0), draws.shape), axis=1)
        assert values.epistemic[row].item() == pytest.approx(
            divergence.mean(), abs=5 * divergence.std() / 400_000**0.5 + 1e-5
        )
        assert values.total[row].item() == pytest.approx(scipy.stats.entropy(draws.mean(0)), abs=2e-3)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize(
    'evidence',
    [
        [0.0, 0.0],
        [1e-6, 0.0],
        [63.0, 62.9, 0.0],
        [62.5, 64.0],
        [1e6, 1e6, 1e6],
        [1e6, 0.0, 0.0],
        [22026.0] * 10,
        [1e9, 3e8],
        [1e12, 1e12],
        [5.0],
        [0.0] * 1000,
    ],
)
def test_to_sixty_digits(evidence, dtype):
    evidence = torch.tensor([evidence], dtype=dtype)
    values = dirichlet_uncertainty(evidence)
    expected = to_sixty_digits(evidence[0].tolist())
    relative = 1e-6 if dtype == torch.float32 else 1e-9
    for value, exact in zip(values, expected, strict=True):
        assert value.dtype == dtype
        assert value.item() == pytest.approx(exact, rel=relative, abs=1e-15)
    assert (values.epistemic >= 0).all()


def test_mutual_information_falls_with_evidence_at_any_size():
    """Where a difference of entropies in float32 is noise around zero, the half of (K - 1) / S remains."""
    sizes = torch.logspace(0, 9, 200).unsqueeze(1).expand(-1, 10)
    epistemic = dirichlet_uncertainty(sizes).epistemic
    assert (epistemic[1:] < epistemic[:-1]).all()
    torch.testing.assert_close(epistemic[-1], 9 / (2 * 10 * sizes[-1, 0]), rtol=1e-5, atol=0)


def test_differential_entropy_is_scipys():
    for row, evidence in enumerate(EVIDENCE.double().numpy()):
        assert dirichlet_entropy(EVIDENCE)[row].item() == pytest.approx(
            scipy.stats.dirichlet(evidence + 1).entropy(), abs=1e-12
        )


def test_half_precision_and_nothing():
    values = dirichlet_uncertainty(torch.full((2, 3), 60000.0, dtype=torch.float16))
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in values)
    assert all(value.shape == (0,) for value in dirichlet_uncertainty(torch.empty(0, 3)))


def test_what_is_not_a_number_stays_visible():
    values = dirichlet_uncertainty(torch.tensor([[torch.nan, 1.0]]))
    assert all(value.isnan().all() for value in values)
