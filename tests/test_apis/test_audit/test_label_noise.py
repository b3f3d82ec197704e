"""What is planted comes out, of any kind; what a model cannot tell is not listed."""

import numpy as np
import pytest
from scipy.special import log_softmax

from hybridcls.apis.audit.label_noise import wrong_label_probabilities

IMAGES, CLASSES = 2000, 5


def planted(kind, margin=6.0, classes=CLASSES, images=IMAGES):
    """Logarithms of what a model says of true classes, labels, and what Bayes says who knows the noise."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(images, classes)) + margin * np.eye(classes)[rng.integers(0, classes, images)]
    right = np.exp(log_softmax(logits, 1))
    true = (right.cumsum(1) > rng.random((images, 1))).argmax(1)
    noise = np.eye(classes)
    if kind == 'uniform':
        noise = 0.8 * noise + 0.2 * (1 - noise) / (classes - 1)
    elif kind == 'pair':
        noise = 0.8 * noise + 0.2 * np.roll(noise, 1, axis=1)
    elif kind == 'one':
        noise[0, :2] = 0.6, 0.4
    labels = (noise[true].cumsum(1) > rng.random((images, 1))).argmax(1)
    joint = right * noise[:, labels].T
    return np.log(right), labels, labels != true, 1 - joint[np.arange(images), labels] / joint.sum(1)


@pytest.mark.parametrize('kind', ['none', 'uniform', 'pair', 'one'])
def test_bayes_who_knows_the_noise(kind):
    evidence, labels, wrong, exact = planted(kind)
    found = wrong_label_probabilities([0.4 * evidence], labels)  # too unsure a model: it is calibrated
    assert np.abs(found - exact).mean() < 0.03
    assert found.sum() == pytest.approx(exact.sum(), abs=0.15 * wrong.sum() + 0.01 * IMAGES)
    assert (found > 0.5).sum() <= 0.01 * IMAGES + 1.15 * wrong.sum()
    if kind != 'none':
        assert wrong[found > 0.5].mean() > 0.85
        assert (found > 0.5)[wrong].mean() > 0.8


def test_a_weak_model_lists_none_of_the_labels_that_it_contradicts():
    evidence, labels, _, _ = planted('none', margin=1.5)
    assert 0.4 < (evidence.argmax(1) != labels).mean() < 0.6
    assert (wrong_label_probabilities([evidence], labels) > 0.5).mean() < 0.01


def test_two_classes_noise_signals_and_silence():
    evidence, labels, _, exact = planted('uniform', classes=2, images=300)
    noise = np.log(np.random.default_rng(1).dirichlet([1, 1], 300))
    found = wrong_label_probabilities([evidence, noise], labels)  # the second says nothing: no weight
    assert np.abs(found - exact).mean() < 0.08
    assert ((found > 0.5) == (exact > 0.5)).mean() > 0.95
    silent = evidence.copy()
    silent[:10] = np.nan
    assert (wrong_label_probabilities([silent], labels)[:10] == 0).all()
    assert (wrong_label_probabilities([silent, noise], labels)[:10] > 0).all()  # one of them says something
    assert (wrong_label_probabilities([np.full_like(evidence, np.nan)], labels) == 0).all()


def test_many_classes_of_one_image_and_labels_that_are_all_wrong():
    evidence = np.log(np.full((300, 300), 1e-5) + (1 - 1e-2) * np.eye(300))
    labels = np.arange(300)
    assert (wrong_label_probabilities([evidence], labels) < 0.5).all()
    evidence, labels, _, _ = planted('none')
    shifted = wrong_label_probabilities([evidence], (labels + 1) % CLASSES)
    assert np.isfinite(shifted).all()  # consistently renamed classes are no fewer or more right than before


def test_memory_and_time_do_not_grow_with_the_square_of_the_classes():
    rng, count, width = np.random.default_rng(0), 100_000, 10  # a matrix of all classes would have 80 GB
    true = rng.integers(0, count, 3000)
    classes = np.stack([true, *((true + step) % count for step in range(1, width))], 1)
    labels = np.where(np.arange(3000) < 300, (true + 1) % count, true)
    evidence = np.log(0.01 + 0.9 * (classes == true[:, None]))
    found = wrong_label_probabilities([evidence], labels, classes, count)
    assert (found[:300] > 0.9).all()
    assert (found[300:] < 0.1).all()
    shuffled = rng.permuted(np.arange(width)[None].repeat(3000, 0), axis=1)  # in which order they come is the same
    parts = (np.take_along_axis(values, shuffled, 1) for values in (evidence, classes))
    evidence, classes = parts
    np.testing.assert_allclose(wrong_label_probabilities([evidence], labels, classes, count), found, atol=1e-9)
