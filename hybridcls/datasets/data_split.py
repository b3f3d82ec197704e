"""Divide images into training, validation and test: seeded, stratified by class, groups never divided."""

import warnings
from collections import Counter
from collections.abc import Hashable, Sequence
from fractions import Fraction
from math import ceil
from typing import Optional

import numpy as np

__all__ = ['divide', 'folds_of']

Labels = Sequence[Sequence[str]]


def divide(labels: Labels, groups: Sequence[Hashable], val: float, test: float = 0.0, seed: int = 0) -> list[str]:
    """Divide images.

    The share of each class is nearly the same in every part. A class of one group (of one image, if that has no
    near-duplicates) goes to training.

    Args:
        labels (Sequence[Sequence[str]]): Class names of each of the N images: one, several or none.
        groups (Sequence[Hashable]): The group of each image; all images of a group go to the same part.
        val (float): Share of the validation, in [0, 1); rounded to a simple fraction (0.15 becomes 1/7). 0: none.
        test (float): Share of the test. Defaults to 0.
        seed (int): Of the choice. Defaults to 0.

    Returns:
        list[str]: ``'train'``, ``'val'`` or ``'test'`` for each image.

    Raises:
        ValueError: If there are fewer groups than the shares need.

    Example:
        >>> divide([['a']] * 5 + [['b']] * 5 + [['c']], range(11), val=0.2).count('val')
        2
    """
    parts = ['train'] * len(labels)
    for part, share in (('test', test), ('val', val / (1 - test))):
        if share > 0:
            simple = Fraction(share).limit_denominator(max(10, ceil(1 / share)))
            inside = [i for i, chosen in enumerate(parts) if chosen == 'train']
            folds = folds_of([labels[i] for i in inside], [groups[i] for i in inside], simple.denominator, seed)
            for i, fold in zip(inside, folds, strict=True):
                if fold is not None and fold < simple.numerator:
                    parts[i] = part
    return parts


def folds_of(labels: Labels, groups: Sequence[Hashable], folds: int, seed: int = 0) -> list[Optional[int]]:
    """Assign images to folds; see :func:`divide`.

    Groups of several images are dealt by scikit-learn's ``StratifiedGroupKFold``. Then each other image goes to the
    fold that has fewest of its class; of equal ones, to the one with fewest images. An image with several labels counts
    for the rarest of them.

    Args:
        labels (Sequence[Sequence[str]]): Class names of each of the N images.
        groups (Sequence[Hashable]): The group of each image.
        folds (int): How many, 2 or more.
        seed (int): Of the choice. Defaults to 0.

    Returns:
        list[int | None]: The fold of each image, from 0; None is for training in all of them: it is of a class that
        has no other group.

    Raises:
        ValueError: If there are fewer groups than folds.
    """
    numbers: dict[Hashable, int] = {}
    group_of = [numbers.setdefault(group, len(numbers)) for group in groups]
    sizes = Counter(group_of)
    groups_with: dict[str, set[int]] = {}
    for names, group in zip(labels, group_of, strict=True):
        for name in names:
            groups_with.setdefault(name, set()).add(group)
    divided = set(sizes) - {next(iter(having)) for having in groups_with.values() if len(having) == 1}
    if len(divided) < folds:
        raise ValueError(
            f'expected at least {folds} images (near-duplicates count as one) in classes of two or more, got '
            f'{len(divided)}. Add images, or bring a split of your own: folders train and val, or a table with the '
            'columns path, label and split.'
        )
    images_of = Counter(name for names in labels for name in names)
    strata = [min(names, key=lambda name: (images_of[name], name), default='') for names in labels]
    found: list[Optional[int]] = [None] * len(labels)
    several = [i for i, group in enumerate(group_of) if group in divided and sizes[group] > 1]
    for i, fold in _deal_groups(several, strata, group_of, folds, seed):
        found[i] = fold
    in_fold = [0] * folds
    of_class = {name: [0] * folds for name in set(strata)}
    for i in several:
        in_fold[found[i] or 0] += 1
        of_class[strata[i]][found[i] or 0] += 1
    single = [i for i, group in enumerate(group_of) if group in divided and sizes[group] == 1]
    for i in sorted(np.random.default_rng(seed).permutation(single).tolist(), key=lambda i: strata[i]):
        counts = of_class[strata[i]]
        fold = min(range(folds), key=lambda number: (counts[number], in_fold[number]))
        found[i] = fold
        in_fold[fold] += 1
        counts[fold] += 1
    return found


def _deal_groups(
    members: Sequence[int], strata: Sequence[str], group_of: Sequence[int], folds: int, seed: int
) -> list[tuple[int, int]]:
    """Return the fold of each image that belongs to a group."""
    from sklearn.model_selection import StratifiedGroupKFold

    if not members:
        return []
    # scikit-learn refuses if no class has as many images as there are folds: one more class of single images has.
    classes = [*(strata[i] for i in members), *['\0'] * folds]
    groups = [*(group_of[i] for i in members), *range(-folds, 0)]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # small classes, which are reported by class
        dealt = list(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(classes, classes, groups))
    return [(members[i], fold) for fold, (_, inside) in enumerate(dealt) for i in inside.tolist() if i < len(members)]
