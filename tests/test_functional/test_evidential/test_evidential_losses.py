"""Against the paper's integrals: draws from the Dirichlet distribution, SciPy, and mpmath with 60 digits."""

import mpmath
import numpy as np
import pytest
import scipy.stats
import torch

from hybridcls.functional import EVIDENTIAL_FORMS, dirichlet_kl_to_uniform, evidential_data_loss, misleading_evidence

EVIDENCE = torch.tensor([[2.0, 0.5, 0.1], [0.0, 0.0, 0.0], [7.0, 30.0, 1e-3], [0.2, 5.0, 400.0]])
HARD = torch.tensor([0, 2, 1, 0])
SOFT = torch.tensor([[0.3, 0.7, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.0, 1.0, 0.0], [0.1, 0.2, 0.7]])


def one_hot(labels, classes=3):
    return torch.eye(classes)[labels]


@pytest.mark.parametrize('targets', [HARD, SOFT], ids=['hard', 'soft'])
def test_what_the_formulas_are_means_of(targets):
    """Eq. 4 and 5 are the means of cross entropy and Brier score over draws of p; eq. 3 is the log of a mean."""
    generator = np.random.default_rng(0)
    labels = (one_hot(targets) if targets.dim() == 1 else targets).double().numpy()
    for row, evidence in enumerate(EVIDENCE.double().numpy()):
        draws = generator.dirichlet(evidence + 1, size=400_000)
        with np.errstate(divide='ignore', invalid='ignore'):
            cross_entropy = -np.nan_to_num(labels[row] * np.log(draws)).sum(1)
        by_form = {'digamma': cross_entropy, 'sum_of_squares': np.square(labels[row] - draws).sum(1)}
        for form, values in by_form.items():
            value = evidential_data_loss(EVIDENCE, targets, form)[row].item()
            assert value == pytest.approx(values.mean(), abs=5 * values.std() / 400_000**0.5 + 1e-9)
        expected = -(labels[row] * np.log(draws.mean(0))).sum()
        assert evidential_data_loss(EVIDENCE, targets, 'log')[row].item() == pytest.approx(expected, rel=1e-2, abs=1e-3)


@pytest.mark.parametrize('form', EVIDENTIAL_FORMS)
def test_one_hot_probabilities_are_hard_labels(form):
    for function in (lambda y: evidential_data_loss(EVIDENCE, y, form), lambda y: misleading_evidence(EVIDENCE, y)):
        torch.testing.assert_close(function(one_hot(HARD)), function(HARD))


@pytest.mark.parametrize('form', EVIDENTIAL_FORMS)
def test_mixed_labels_have_the_gradient_of_mixed_losses(form):
    def gradient(loss):
        evidence = EVIDENCE.double().requires_grad_()
        loss(evidence).sum().backward()
        return evidence.grad

    first, second = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 1, 0, 2])
    soft = 0.3 * one_hot(first) + 0.7 * one_hot(second)
    mixed = gradient(lambda e: evidential_data_loss(e, soft, form))
    apart = gradient(lambda e: 0.3 * evidential_data_loss(e, first, form) + 0.7 * evidential_data_loss(e, second, form))
    torch.testing.assert_close(mixed, apart, rtol=1e-6, atol=1e-8)  # the labels are float32


def test_misleading_evidence_is_the_papers_alpha_tilde():
    for targets in (one_hot(HARD), SOFT):
        alpha_tilde = targets + (1 - targets) * (EVIDENCE + 1)
        torch.testing.assert_close(misleading_evidence(EVIDENCE, targets) + 1, alpha_tilde)
    assert misleading_evidence(EVIDENCE, HARD).gather(1, HARD[:, None]).eq(0).all()


def test_kl_is_minus_scipys_entropy_but_for_the_uniform_ones():
    kl = dirichlet_kl_to_uniform(EVIDENCE)
    uniform = scipy.stats.dirichlet(np.ones(3)).entropy()
    for row, evidence in enumerate(EVIDENCE.double().numpy()):
        assert kl[row].item() == pytest.approx(uniform - scipy.stats.dirichlet(evidence + 1).entropy(), abs=1e-12)


@pytest.mark.parametrize('size', [0.0, 1e-7, 1e-4, 0.01, 1.0, 22026.0])
@pytest.mark.parametrize('classes', [1, 2, 100, 10_000])
def test_kl_to_sixty_digits(classes, size):
    """One evidence for all classes, so that many of them cost one digamma function. Float32 gives -0.0071 somewhere."""
    evidence = torch.full((1, classes), size, requires_grad=True)
    kl = dirichlet_kl_to_uniform(evidence)
    kl.sum().backward()
    with mpmath.workdps(60):
        e = mpmath.mpf(evidence[0, 0].item())
        alpha, strength = e + 1, classes * (e + 1)
        expected = (
            mpmath.loggamma(strength)
            - mpmath.loggamma(classes)
            - classes * mpmath.loggamma(alpha)
            + classes * e * (mpmath.digamma(alpha) - mpmath.digamma(strength))
        )
        slope = e * mpmath.polygamma(1, alpha) - classes * e * mpmath.polygamma(1, strength)
    assert kl.item() == pytest.approx(float(expected), rel=1e-9, abs=1e-10)
    assert evidence.grad[0, 0].item() == pytest.approx(float(slope), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize('form', EVIDENTIAL_FORMS)
@pytest.mark.parametrize('targets', [HARD, SOFT], ids=['hard', 'soft'])
def test_gradients(form, targets):
    evidence = EVIDENCE.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda e: evidential_data_loss(e, targets, form), evidence)
    assert torch.autograd.gradcheck(lambda e: dirichlet_kl_to_uniform(misleading_evidence(e, targets)), evidence)


@pytest.mark.parametrize('form', EVIDENTIAL_FORMS)
def test_many_classes_in_float32(form):
    """10,000 classes: losses and gradients of float32 evidence are those of the same numbers in float64."""
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(4, 10_000, generator=generator), torch.tensor([0, 1, 2, 9999])
    gradients = []
    for dtype in (torch.float32, torch.float64):
        evidence = logits.exp().to(dtype).requires_grad_()
        loss = evidential_data_loss(evidence, labels, form) + dirichlet_kl_to_uniform(
            misleading_evidence(evidence, labels)
        )
        loss.sum().backward()
        gradients.append(evidence.grad)
    torch.testing.assert_close(gradients[0], gradients[1].float())


def test_one_class_is_certain():
    evidence, labels = torch.tensor([[3.0], [0.0]]), torch.tensor([0, 0])
    for form in EVIDENTIAL_FORMS:
        torch.testing.assert_close(evidential_data_loss(evidence, labels, form), torch.zeros(2).double())
    torch.testing.assert_close(dirichlet_kl_to_uniform(evidence), torch.zeros(2).double(), atol=1e-12, rtol=0)


def test_no_samples():
    for form in EVIDENTIAL_FORMS:
        assert evidential_data_loss(torch.empty(0, 3), torch.empty(0, dtype=torch.int64), form).shape == (0,)


def test_what_does_not_fit_is_answered():
    with pytest.raises(ValueError, match=r"expected form to be one of .*, got 'mse'"):
        evidential_data_loss(EVIDENCE, HARD, 'mse')
    for function in (evidential_data_loss, misleading_evidence):
        with pytest.raises(ValueError, match=r'evidence \(4, 3\) and targets \(3,\) do not fit'):
            function(EVIDENCE, HARD[:3])
        with pytest.raises(TypeError, match=r'targets of shape \(4,\) are torch.float32'):
            function(EVIDENCE, HARD.float())
        with pytest.raises(TypeError, match=r'targets of shape \(4, 3\) are torch.int64'):
            function(EVIDENCE, one_hot(HARD).long())
