"""Find the classes that are significantly worse than the others, and those with too few images to tell."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hybridcls.functional.metrics import fewest_units

__all__ = ['WeakClasses', 'weak_classes']

_RATE = 0.05


class WeakClasses(NamedTuple):
    """Names of classes, the worst first.

    Args:
        missed (list[str]): Whose images are answered rightly more seldom than those of all.
        mistaken (list[str]): Whose answers are right more seldom than all answers.
        unknown (list[str]): With too few images for an interval, the fewest first.
    """

    missed: list[str]
    mistaken: list[str]
    unknown: list[str]


def weak_classes(table: Sequence[Mapping[str, Any]], accuracy: float) -> WeakClasses:
    """Test recall and precision of each class against the accuracy by one-sided binomial tests.

    Of each kind at most 5 % are named in error (Benjamini-Hochberg), as of so many classes some are low by chance.

    Args:
        table (Sequence[Mapping]): Of :func:`~hybridcls.apis.report.numbers.class_numbers`.
        accuracy (float): Of all images, in [0, 1].
    """
    fewest = fewest_units()
    few = sorted((row for row in table if row['images'] < fewest), key=lambda row: row['images'])
    return WeakClasses(
        _below(table, 'recall_percent', 'images', accuracy),
        _below(table, 'precision_percent', 'predictions', accuracy),
        [row['class'] for row in few],
    )


def _below(table: Sequence[Mapping[str, Any]], share: str, count: str, accuracy: float) -> list[str]:
    from scipy.stats import binom, false_discovery_control

    rows = [row for row in table if row[count] and row[share] is not None]
    if not rows:
        return []
    trials = np.array([row[count] for row in rows])
    hits = np.round(np.array([row[share] for row in rows]) * trials / 100)
    chance = binom.cdf(hits, trials, accuracy)
    found = np.flatnonzero(false_discovery_control(chance) <= _RATE)
    return [rows[one]['class'] for one in sorted(found, key=lambda one: (rows[one][share], chance[one]))]
