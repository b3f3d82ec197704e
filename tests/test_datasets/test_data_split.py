"""Shares, classes and groups of a split; scikit-learn's splitters as what it should be no worse than."""

from collections import Counter

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from hybridcls.datasets.data_split import divide, folds_of


def labels_of(*counts):
    return [[f'c{number}'] for number, count in enumerate(counts) for _ in range(count)]


@pytest.mark.parametrize(('val', 'share'), [(0.2, 1 / 5), (0.25, 1 / 4), (0.3, 3 / 10), (0.15, 1 / 7), (0.05, 1 / 20)])
def test_shares_of_each_class(val, share):
    labels = labels_of(420, 140, 60)
    parts = divide(labels, range(620), val, seed=3)
    for name, count in Counter(label for (label,) in labels).items():
        inside = sum(part == 'val' for (label,), part in zip(labels, parts, strict=True) if label == name)
        assert abs(inside - count * share) < 2


def test_images_without_groups_are_dealt_as_evenly_as_by_scikit_learn():
    labels = labels_of(23, 7, 5, 11)
    folds = folds_of(labels, range(46), 5)
    theirs = np.zeros(46, dtype=int)
    for fold, (_, inside) in enumerate(StratifiedKFold(5).split(labels, [label for (label,) in labels])):
        theirs[inside] = fold

    def spread(found):
        table = Counter(zip([label for (label,) in labels], found, strict=True))
        return {name: sorted(table[name, fold] for fold in range(5)) for name in ('c0', 'c1', 'c2', 'c3')}

    assert spread(folds) == spread(theirs.tolist())
    assert max(Counter(folds).values()) - min(Counter(folds).values()) <= 1


def test_a_group_is_never_divided_and_folds_stay_even():
    labels, groups = labels_of(60, 60), [number // 3 for number in range(120)]
    folds = folds_of(labels, groups, 5)
    assert all(len(set(folds[start : start + 3])) == 1 for start in range(0, 120, 3))
    assert sorted(Counter(folds).values()) == [24] * 5


def test_a_group_may_hold_several_classes():
    labels = [['a'], ['b'], ['a'], ['a'], ['b'], ['b'], ['a'], ['b']]
    folds = folds_of(labels, ['x', 'x', 1, 2, 3, 4, 5, 6], 2)
    assert folds[0] == folds[1]
    assert None not in folds


def test_a_class_of_one_image_or_group_is_for_training():
    labels = [*labels_of(10, 10), ['lonely'], ['twins'], ['twins']]
    groups = [*range(20), 20, 'pair', 'pair']
    assert divide(labels, groups, 0.2)[20:] == ['train'] * 3
    assert folds_of(labels, groups, 5)[20:] == [None] * 3


def test_few_images_a_class():
    """Two of each of 50 classes: scikit-learn's StratifiedKFold refuses that."""
    parts = divide(labels_of(*[2] * 50), range(100), 0.2)
    assert parts.count('val') == 20
    trained = {label for (label,), part in zip(labels_of(*[2] * 50), parts, strict=True) if part == 'train'}
    assert len(trained) == 50


def test_a_test_is_cut_off_first():
    parts = Counter(divide(labels_of(100, 100), range(200), 0.2, 0.1))
    assert parts == dict(train=140, val=40, test=20)


def test_the_seed_decides():
    labels = labels_of(30, 30)
    assert divide(labels, range(60), 0.2, seed=1) == divide(labels, range(60), 0.2, seed=1)
    assert divide(labels, range(60), 0.2, seed=1) != divide(labels, range(60), 0.2, seed=2)
    groups = [number // 2 for number in range(60)]
    assert divide(labels, groups, 0.2, seed=1) != divide(labels, groups, 0.2, seed=2)


def test_an_image_with_several_labels_counts_for_the_rarest():
    labels = [['often', 'seldom'] if number < 10 else ['often'] for number in range(100)]
    labels += [[] for _ in range(10)]
    folds = folds_of(labels, range(110), 5)
    assert [folds[:10].count(fold) for fold in range(5)] == [2] * 5
    assert [folds[100:].count(fold) for fold in range(5)] == [2] * 5


def test_too_few_images():
    with pytest.raises(ValueError, match=r'expected at least 5 images .* got 4\. Add images, or bring a split'):
        divide([*labels_of(2, 2), ['lonely']], range(5), 0.2)
