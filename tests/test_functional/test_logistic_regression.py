"""The fit against scikit-learn, on the digits."""

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from hybridcls.functional import fit_logistic_regression

IMAGES, LABELS = (torch.from_numpy(part) for part in load_digits(return_X_y=True))


def probabilities(fit, features):
    return (features.double() @ fit.weight.T + fit.bias).softmax(1)


@pytest.mark.parametrize('images', [40, 300])  # fewer and more than the 64 features
@pytest.mark.parametrize('inverse_penalty', [0.05, 2.0])
def test_equals_scikit_learn(images, inverse_penalty):
    features, labels = IMAGES[:images], LABELS[:images]
    fit = fit_logistic_regression(features.float(), labels, 10, inverse_penalty)
    scale = (features - features.mean(0)).square().mean().sqrt()
    standard = ((features - features.mean(0)) / scale).numpy()
    theirs = LogisticRegression(C=inverse_penalty, max_iter=5000, tol=1e-8).fit(standard, labels.numpy())
    others = (IMAGES[1000:] - features.mean(0)) / scale
    expected = torch.from_numpy(theirs.predict_proba(others.numpy()))
    torch.testing.assert_close(probabilities(fit, IMAGES[1000:]), expected, atol=2e-3, rtol=0)


def test_binary_classifiers_equal_scikit_learn():
    features, targets = IMAGES[:200], torch.stack([LABELS[:200] > 4, LABELS[:200] % 2 == 0], 1).double()
    fit = fit_logistic_regression(features, targets, 2, 0.1)
    scale = (features - features.mean(0)).square().mean().sqrt()
    standard = ((features - features.mean(0)) / scale).numpy()
    scores = (features @ fit.weight.T + fit.bias).sigmoid()
    for column in range(2):
        theirs = LogisticRegression(C=0.1, max_iter=5000, tol=1e-8).fit(standard, targets[:, column].numpy())
        expected = torch.from_numpy(theirs.predict_proba(standard)[:, 1])
        torch.testing.assert_close(scores[:, column], expected, atol=2e-3, rtol=0)


def test_penalty_is_chosen_by_images_not_fitted_to():
    """Labels that have nothing to do with the images get the strongest penalty, the digits a weaker one."""
    random = torch.randint(0, 10, (200,), generator=torch.Generator().manual_seed(0))
    assert fit_logistic_regression(IMAGES[:200], random, 10).inverse_penalty == 0.01
    chosen = fit_logistic_regression(IMAGES[:200], LABELS[:200], 10)
    assert chosen.inverse_penalty > 0.01
    assert (probabilities(chosen, IMAGES[1000:]).argmax(1) == LABELS[1000:]).float().mean() > 0.8


def test_another_loss_is_minimized():
    """With class weights the minimum is that of scikit-learn's."""
    features, labels, weights = IMAGES[:200], LABELS[:200], torch.linspace(0.2, 3, 10).double()

    def loss(outputs, targets):
        return torch.nn.functional.cross_entropy(outputs, targets, weights, reduction='none').mean()

    fit = fit_logistic_regression(features, labels, 10, 0.1, loss)
    scale = (features - features.mean(0)).square().mean().sqrt()
    standard = ((features - features.mean(0)) / scale).numpy()
    theirs = LogisticRegression(C=0.1, max_iter=5000, tol=1e-8, class_weight=dict(enumerate(weights.tolist())))
    expected = torch.from_numpy(theirs.fit(standard, labels.numpy()).predict_proba(standard))
    torch.testing.assert_close(probabilities(fit, features), expected, atol=2e-3, rtol=0)


def test_edges():
    constant = fit_logistic_regression(torch.ones(4, 3), torch.tensor([0, 0, 0, 1]), 2)
    torch.testing.assert_close(
        probabilities(constant, torch.ones(1, 3))[0, 0], torch.tensor(0.75).double(), atol=1e-3, rtol=0
    )
    one_each = fit_logistic_regression(torch.eye(3), torch.tensor([0, 1, 2]), 4)  # nothing can be held out
    assert probabilities(one_each, torch.eye(3)).argmax(1).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match='finite'):
        fit_logistic_regression(torch.tensor([[float('nan')]]), torch.tensor([0]), 2)
    with pytest.raises(ValueError, match='expected features'):
        fit_logistic_regression(torch.ones(2, 3), torch.tensor([0]), 2)


def theirs(features, labels, penalty=1.0):
    """scikit-learn's probabilities of the given images, on features that are centered and scaled in float64."""
    features = features.double() - features.double().mean(0)
    standard = (features / features.abs().max() / (features / features.abs().max()).square().mean().sqrt()).numpy()
    model = LogisticRegression(C=penalty, max_iter=10000, tol=1e-9).fit(standard, labels.numpy())
    return torch.from_numpy(model.predict_proba(standard))


@pytest.mark.parametrize('penalty', [0.01, 1.0, 100.0])
@pytest.mark.parametrize('scale', [1e-200, 1e-8, 1.0, 1e6, 1e200])
@pytest.mark.parametrize('constant', [None, 0.1, 1e6])
def test_equals_scikit_learn_at_any_scale(penalty, scale, constant):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    features = torch.randn(60, 8, generator=generator).double() + 2 * torch.nn.functional.one_hot(labels, 8)
    if constant is not None:
        features[:, 0] = constant
    features *= scale
    fit = fit_logistic_regression(features, labels, 3, penalty)
    torch.testing.assert_close(probabilities(fit, features), theirs(features, labels, penalty), atol=1e-4, rtol=0)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize('images', [3, 7, 61])  # whose mean is rounded
def test_constant_features_give_the_shares_of_the_classes(dtype, images):
    one = torch.randn(16, generator=torch.Generator().manual_seed(1)).mul(1e3).to(dtype)
    features, labels = one.repeat(images, 1), (torch.arange(images) == 0).long()
    fit = fit_logistic_regression(features, labels, 2)
    assert not fit.weight.any()
    expected = torch.tensor([1 - 1 / images, 1 / images]).double()
    torch.testing.assert_close(probabilities(fit, one[None])[0], expected, atol=1e-4, rtol=0)
    if dtype == torch.float32:  # the last bit of a few images is no evidence
        features[0] = torch.nextafter(one, torch.tensor(torch.inf))
        assert not fit_logistic_regression(features, labels, 2).weight.any() or images == 3


def test_one_class_or_one_image_of_each_are_finite():
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    for labels, count in ((torch.zeros(6, dtype=torch.int64), 3), (torch.arange(6), 6), (torch.arange(6), 9)):
        fit = fit_logistic_regression(features, labels, count)
        assert fit.weight.isfinite().all()
        assert fit.bias.isfinite().all()
        assert (probabilities(fit, features).argmax(1) == labels).all()
