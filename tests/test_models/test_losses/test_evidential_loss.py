import warnings

import pytest
import torch
from mmengine.logging import MessageHub

from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.functional import (
    dirichlet_kl_to_uniform,
    evidence_from_logits,
    evidential_data_loss,
    misleading_evidence,
)
from hybridcls.registry import MODELS

LABELS = torch.tensor([0, 2, 1, 0])
SOFT = torch.tensor([[0.3, 0.7, 0.0], [0.2, 0.3, 0.5], [0.0, 1.0, 0.0], [0.1, 0.2, 0.7]])


def logits(dtype=torch.float32):
    return 3 * torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def build(**keys):
    return MODELS.build(dict(type='EvidentialLoss', **keys))


@pytest.fixture(autouse=True)
def _no_run():
    """The hub of a Runner that an earlier test left, at epoch 0, would switch the penalty off."""
    with isolated_globals():
        MessageHub.get_instance('no run')
        yield


@pytest.fixture
def runner_says():
    """A message hub as a Runner leaves it, gone after the test."""
    with isolated_globals():
        hub = MessageHub.get_instance('a run')
        yield lambda **info: [hub.update_info(key, value) for key, value in info.items()]


@pytest.mark.parametrize('targets', [LABELS, SOFT], ids=['hard', 'soft'])
@pytest.mark.parametrize(
    'keys',
    [
        dict(),
        dict(form='log'),
        dict(form='sum_of_squares', evidence='softplus'),
        dict(evidence='relu', kl_weight=0.3),
        dict(clamp=1.5, loss_weight=2.0),
    ],
)
def test_settings_reach_the_formula(keys, targets):
    evidence = evidence_from_logits(logits(), keys.get('evidence', 'exp'), keys.get('clamp', 10.0))
    data = evidential_data_loss(evidence, targets, keys.get('form', 'digamma')).mean()
    kl = dirichlet_kl_to_uniform(misleading_evidence(evidence, targets)).mean()
    expected = (data + keys.get('kl_weight', 1.0) * 0.4 * kl) * keys.get('loss_weight', 1.0)
    torch.testing.assert_close(build(**keys)(logits(), targets, position=4), expected.float())


def test_annealing_by_hand():
    loss = build(kl_weight=0.5, annealing=8)
    assert [loss.kl_weight_now(10, position) for position in (0, 2, 8, 100)] == [0.0, 0.125, 0.5, 0.5]
    assert build(annealing=0).kl_weight_now(10, 0) == 1.0


def test_the_weight_falls_with_the_number_of_classes():
    weights = [build().kl_weight_now(classes, 10) for classes in (1, 2, 10, 100, 1000)]
    assert weights == pytest.approx([1.0, 1.0, 1.0, 0.1, 0.01])
    assert build(kl_reference_classes=None).kl_weight_now(1000, 10) == 1.0


@pytest.mark.parametrize('classes', [10, 100, 1000])
def test_random_outputs_are_penalised_alike_with_any_number_of_classes(classes):
    loss, generator = build(), torch.Generator().manual_seed(0)
    outputs = torch.randn(200, classes, generator=generator)
    terms = loss.terms(loss.evidence(outputs), torch.randint(classes, (200,), generator=generator))
    assert (terms.kl * terms.kl_weight).item() == pytest.approx(3.2, abs=0.35)


def test_it_follows_the_runners_epoch_or_iteration(runner_says):
    by_epoch, by_iter = build(annealing=10), build(annealing=400, annealing_by='iter')
    for epoch, iteration in [(0, 0), (3, 120), (25, 1000)]:
        runner_says(epoch=epoch, iter=iteration, max_epochs=30)
        assert by_epoch.kl_weight_now(10) == pytest.approx(min(1, epoch / 10))
        assert by_iter.kl_weight_now(10) == pytest.approx(min(1, iteration / 400))
        assert by_epoch.kl_weight_now(10, position=5) == 0.5  # who is told does not ask


def test_without_a_runner_the_weight_is_the_full_one():
    assert build().kl_weight_now(10) == 1.0


def test_epochs_that_never_pass_are_warned_of_once(runner_says):
    runner_says(epoch=0, iter=7, max_epochs=1)
    loss = build()
    with pytest.warns(UserWarning, match="rises in annealing=10 epochs.*annealing_by='iter'"):
        loss(logits(), LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        loss(logits(), LABELS)
        build(annealing=0)(logits(), LABELS)
        assert loss.kl_weight_now(10) == 0.0
        assert build(annealing_by='iter').kl_weight_now(10) == 0.7


@pytest.mark.parametrize('form', ['sum_of_squares', 'log', 'digamma'])
@pytest.mark.parametrize('evidence', ['exp', 'softplus', 'relu'])
@pytest.mark.parametrize('targets', [LABELS, SOFT], ids=['hard', 'soft'])
def test_gradients(form, evidence, targets):
    loss = build(form=form, evidence=evidence)
    assert torch.autograd.gradcheck(lambda z: loss(z, targets), logits(torch.float64).requires_grad_())


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    outputs = (10 * logits()).to(dtype).requires_grad_()
    with torch.autocast('cpu', dtype):
        value = build()(outputs, LABELS)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, build()(outputs.detach().float(), LABELS))
    value.backward()
    assert outputs.grad.isfinite().all()


def test_evidence_without_gradient_is_relus_own():
    """No output above zero: with relu nothing is ever learned of the sample, with the others it is."""
    for kind, learns in [('relu', False), ('exp', True), ('softplus', True)]:
        outputs = -logits().abs().requires_grad_()
        outputs.retain_grad()
        build(evidence=kind)(outputs, LABELS).backward()
        assert outputs.grad.gather(1, LABELS[:, None]).ne(0).all().item() is learns


def test_what_is_not_a_number_stays_visible():
    assert build()(torch.full((2, 3), torch.nan), LABELS[:2]).isnan()


@pytest.mark.parametrize(
    'keys',
    [
        dict(form='mse'),
        dict(evidence='exponential'),
        dict(clamp=0.0),
        dict(kl_weight=-1.0),
        dict(annealing=-1),
        dict(annealing_by='step'),
        dict(kl_reference_classes=0),
        dict(loss_weight=-0.5),
    ],
)
def test_wrong_settings_fail_when_built(keys):
    (name,) = keys
    with pytest.raises(ValueError, match=f'EvidentialLoss: expected {name} '):
        build(**keys)


def test_epochs_are_whole():
    with pytest.raises(TypeError, match=r'EvidentialLoss: expected annealing to be an integer, got 2\.5 \(float\)'):
        build(annealing=2.5)
