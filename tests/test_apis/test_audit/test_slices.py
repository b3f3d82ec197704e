"""Slices in which a model fails: planted ones are found and named, shuffled errors give none."""

import numpy as np
import pytest
from scipy.stats import binom

from hybridcls.apis.audit.slice_attributes import Attribute, class_attribute, cluster_attributes, column_attribute
from hybridcls.apis.audit.slices import class_strata, find_slices

CLASSES = [f'class {k}' for k in range(5)]
IMAGES = 400


@pytest.fixture(scope='module')
def world():
    """Labels and attributes of images that are nothing but numbers."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, len(CLASSES), IMAGES)
    light = generator.beta(3, 3, IMAGES)
    embeddings = 2 * generator.normal(size=(len(CLASSES), 8))[labels] + generator.normal(size=(IMAGES, 8))
    attributes = [
        Attribute('brightness', light, 'dark', 'bright'),
        Attribute('sharpness', generator.gamma(2, 0.1, IMAGES), 'blurred', 'sharp'),
        column_attribute('camera', list(generator.choice(['A', 'B', 'C', 'D'], IMAGES, p=[0.5, 0.25, 0.15, 0.1]))),
        class_attribute(labels, CLASSES),
        *cluster_attributes(embeddings, labels, CLASSES),
    ]
    return labels, attributes


def drawn(members, share=0.5, elsewhere=0.06, seed=0):
    return np.random.default_rng(seed).random(len(members)) < np.where(members, share, elsewhere)


def values_of(attributes, name):
    return next(one.values for one in attributes if one.name == name)


@pytest.mark.parametrize(
    ('errors', 'shuffles', 'rate'),
    [
        (40, 12, 0.1),
        *(pytest.param(errors, 100, 0.05, marks=pytest.mark.nightly) for errors in (1, 3, 40, 200, IMAGES)),
    ],
)
def test_shuffled_errors_give_no_slices(world, errors, shuffles, rate):
    labels, attributes = world
    wrong = np.arange(IMAGES) < errors
    hits = sum(
        bool(find_slices(attributes, dict(wrong=generator.permutation(wrong)), labels, rate).found)
        for generator in map(np.random.default_rng, range(shuffles))
    )
    assert hits <= binom.ppf(0.999, shuffles, rate)


def test_dark_images(world):
    labels, attributes = world
    dark = values_of(attributes, 'brightness') < 0.3
    wrong = drawn(dark)
    search = find_slices(attributes, dict(wrong=wrong), labels)
    assert len(search.found) == 1
    one = search.found[0]
    assert one.attributes == ('brightness',)
    assert one.name.startswith('dark images (brightness < 0.')
    inside = np.isin(np.arange(IMAGES), one.members)
    assert (one.images, one.count) == (inside.sum(), (inside & wrong).sum())
    assert one.share == one.count / one.images
    assert one.low < one.share < one.high
    assert one.elsewhere == pytest.approx((wrong & ~inside).sum() / (~inside).sum())
    assert one.of_all == pytest.approx(one.count / wrong.sum())
    assert one.elsewhere_low < one.expected < one.elsewhere_high  # the classes are all alike
    assert one.sentence().startswith(f'Of {one.images} dark images (brightness < ')
    assert f'{one.count} are wrong: {100 * one.share:.0f} % [' in one.sentence()
    assert f'Of other images of the same classes, {100 * one.expected:.1f} % are.' in one.sentence()
    threshold = float(one.condition.split('< ')[1])  # the sentence says which images they are
    np.testing.assert_array_equal(inside, values_of(attributes, 'brightness') < threshold)


def test_camera_cluster_class_and_pair(world):
    labels, attributes = world
    light, cameras = values_of(attributes, 'brightness'), values_of(attributes, 'camera')
    clusters = values_of(attributes, 'cluster')  # the coarse ones
    planted = {
        'camera D': cameras == 'D',
        'class class 3': labels == 3,
        'cluster ': clusters == clusters[0],
        ' and camera B': (light < 0.45) & (cameras == 'B'),
    }
    for name, members in planted.items():
        found = find_slices(attributes, dict(wrong=drawn(members)), labels).found
        assert name in found[0].condition or name == 'cluster '  # a cluster may nearly be a class
        common = (np.isin(np.arange(IMAGES), found[0].members) & members).sum()
        assert common > 0.6 * max(members.sum(), found[0].images), name
        assert len(found) <= 2, name


def test_two_slices_are_two_and_the_second_leaves_out_the_first(world):
    labels, attributes = world
    dark = values_of(attributes, 'brightness') < 0.3
    camera = values_of(attributes, 'camera') == 'C'
    found = find_slices(attributes, dict(wrong=drawn(dark | camera, 0.6)), labels).found
    assert {one.attributes[0] for one in found[:2]} == {'brightness', 'camera'}
    assert not set(found[0].members) & set(found[1].members)
    assert found[1].further
    assert 'that are in no slice above, ' in found[1].sentence()
    assert 'Of the other images, ' in found[0].sentence()
    rest = ~np.isin(np.arange(IMAGES), np.concatenate([one.members for one in found[:2]]))
    wrong = drawn(dark | camera, 0.6)
    assert found[1].elsewhere == pytest.approx(wrong[rest].mean())
    assert f'Of the images that are in no slice above, {100 * wrong[rest].mean():.1f} %' in found[1].sentence()


def test_a_hard_class_does_not_blame_its_brightness():
    generator = np.random.default_rng(1)
    labels = np.repeat([0, 1], 200)
    light = generator.random(400) * np.where(labels == 0, 0.4, 1.0)
    wrong = generator.random(400) < np.where(labels == 0, 0.5, 0.05)
    attributes = [Attribute('brightness', light, 'dark', 'bright'), class_attribute(labels, ['night owl', 'gull'])]
    found = find_slices(attributes, dict(wrong=wrong), labels).found
    assert [one.condition for one in found] == ['class night owl']
    assert not found[0].same_classes  # there are no others to compare it with
    assert 'same classes' not in found[0].sentence()


def test_a_symptom_is_not_the_cause(world):
    labels, attributes = world
    dark = values_of(attributes, 'brightness') < 0.3
    wrong = drawn(dark)
    norm = np.random.default_rng(3).random(IMAGES) + 3 * ~wrong
    own = Attribute('norm of the embedding', norm, 'low-norm', 'high-norm', inner=True)
    found = find_slices([*attributes, own], dict(wrong=wrong), labels).found
    assert [one.attributes for one in found] == [('brightness',), ('norm of the embedding',)]
    alone = find_slices([own, attributes[1]], dict(wrong=wrong), labels).found
    assert alone[0].attributes == ('norm of the embedding',)


def test_outcomes_share_the_rate_and_the_order_of_the_images_does_not_matter(world):
    labels, attributes = world
    dark = values_of(attributes, 'brightness') < 0.3
    outcomes = dict(wrong=drawn(dark), abstained=drawn(values_of(attributes, 'camera') == 'D', seed=1))
    search = find_slices(attributes, outcomes, labels)
    assert [one.outcome for one in search.found] == ['wrong', 'abstained']
    order = np.random.default_rng(2).permutation(IMAGES)
    moved = [Attribute(one.name, one.values[order], one.low, one.high, one.brought) for one in attributes]
    again = find_slices(moved, {name: marked[order] for name, marked in outcomes.items()}, labels[order])
    for one, other in zip(search.found, again.found, strict=True):
        assert (one.name, one.count, one.p_value) == (other.name, other.count, pytest.approx(other.p_value))


def test_nothing_to_compare():
    labels = np.arange(20) // 2
    attributes = [class_attribute(labels, [str(k) for k in range(10)])]
    for wrong in (np.zeros(20, bool), np.ones(20, bool)):
        assert find_slices(attributes, dict(wrong=wrong), labels).found == []
    assert find_slices([], dict(wrong=np.ones(20, bool)), labels).found == []


def test_small_classes_are_one_stratum():
    strata, pooled = class_strata(np.array([7] * 10 + [3] * 2 + [5] * 4))
    assert pooled == 6
    assert strata.tolist() == [0] * 10 + [1] * 6
