"""Attributes that may explain errors: columns of a table, image statistics, clusters of embeddings, the gate.

Nothing here looks at which images are wrong, so that a test of the slices afterwards is honest.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Optional

import numpy as np

from hybridcls.checks import is_or_are
from hybridcls.datasets.image_measures import ImageMeasures

__all__ = [
    'Attribute', 'Slice', 'class_attribute', 'cluster_attributes', 'column_attribute', 'folder_attributes',
    'look_attributes', 'pairs_of', 'slices_of',
]  # fmt: skip

FEWEST = 5
"""Images of a slice, and outside of it."""
_MOST_VALUES = 50  # categories of a column, the largest
_CATEGORIES = 8  # a column of numbers with at most so many values has categories
_UNKNOWN = ('', 'na', 'n/a', 'null', 'none', '-')  # among numbers; 'nan' is one
_TAILS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
_PAIR_TAILS = (0.2, 0.4)
_MIDDLE = (0.2, 0.4, 0.6, 0.8)
_SAME = 0.9  # of the images
_CLUSTERS = (5, 20)
_IMAGES_OF_A_CLUSTER = 15

_LOOKS = dict(
    brightness=('dark', 'bright'),
    contrast=('low-contrast', 'high-contrast'),
    saturation=('pale', 'colourful'),
    sharpness=('blurred', 'sharp'),
    shorter_side=('small', 'large'),
    aspect_ratio=('upright', 'wide'),
    jpeg_quality=('much compressed', 'little compressed'),
    grey=('', ''),
    format=('', ''),
    camera=('', ''),
)


@dataclass
class Attribute:
    """A property of N images.

    Args:
        name (str): Such as ``'brightness'``.
        values (np.ndarray): Numbers, float64 (N,), NaN where unknown; or texts, of dtype object, ``''`` where unknown.
        low (str), high (str): Words for images with small and large numbers, such as ``'dark'``. Default to none.
        brought (bool): Whether the user has brought it: pairs with it come first. Defaults to False.
        inner (bool): Whether it is one of the model, as its embeddings: it may be a symptom. Defaults to False.
    """

    name: str
    values: np.ndarray
    low: str = ''
    high: str = ''
    brought: bool = False
    inner: bool = False

    @property
    def is_numeric(self) -> bool:
        """Whether the values are numbers."""
        return self.values.dtype != object


class Slice(NamedTuple):
    """A group of images with a common value of one or two attributes.

    Args:
        attributes (tuple[str, ...]): Names of one or two attributes.
        condition (str): Such as ``'brightness < 0.2'``.
        adjective (str): Such as ``'dark'``; ``''`` without.
        members (np.ndarray): Which images, bool (N,).
        brought (int): How many of its attributes the user has brought.
        coarse (bool): Whether pairs are made with it.
        inner (bool): Whether an attribute is one of the model.
    """

    attributes: tuple[str, ...]
    condition: str
    adjective: str
    members: np.ndarray
    brought: int = 0
    coarse: bool = True
    inner: bool = False

    @property
    def name(self) -> str:
        """In words: ``'dark images (brightness < 0.2)'``."""
        if self.adjective:
            return f'{self.adjective} images ({self.condition})'
        return f'images with {self.condition}'


def look_attributes(measures: Sequence[Optional[ImageMeasures]]) -> list[Attribute]:
    """Return the attributes of image statistics; None stands for an unreadable image."""
    found = []
    for name, (low, high) in _LOOKS.items():
        values = [None if one is None else getattr(one, name) for one in measures]
        if any(isinstance(value, float) for value in values):
            numbers = [np.nan if value is None else value for value in values]
            found.append(Attribute(name.replace('_', ' '), np.array(numbers, dtype=np.float64), low, high))
        else:
            found.append(Attribute(name, np.array([value or '' for value in values], dtype=object)))
    return found


def column_attribute(name: str, cells: Sequence[str]) -> Attribute:
    """Return the attribute of a table's column, numeric if all filled cells are numbers; empty cells are unknown.

    Among numbers ``NA``, ``n/a``, ``null``, ``none`` and ``-`` are unknown, too; among texts they are values.
    """
    texts = [cell.strip() for cell in cells]
    try:
        values = np.array([np.nan if text.lower() in _UNKNOWN else float(text) for text in texts])
        few = len(np.unique(values[~np.isnan(values)])) <= _CATEGORIES
    except ValueError:
        few = True
    if few or not np.isfinite(values[~np.isnan(values)]).all():
        values = np.array(texts, dtype=object)
    return Attribute(name, values, brought=True)


def class_attribute(labels: np.ndarray, classes: Sequence[str]) -> Attribute:
    """Return the attribute of the classes."""
    return Attribute('class', np.array([classes[label] for label in labels], dtype=object))


def folder_attributes(paths: Sequence[Optional[str]], labels: np.ndarray) -> list[Attribute]:
    """Return one attribute per level of the folders, without levels that only repeat the class.

    Example:
        >>> paths = ['data/cat/day/1.jpg', 'data/cat/night/2.jpg', 'data/dog/day/3.jpg', 'data/dog/night/4.jpg']
        >>> [one.values.tolist() for one in folder_attributes(paths, np.array([0, 0, 1, 1]))]
        [['day', 'night', 'day', 'night']]
    """
    folders = [() if path is None else tuple(os.path.dirname(path).split('/')) for path in paths]
    found: list[Attribute] = []
    for level in range(max(map(len, folders), default=0)):
        names = np.array([folder[level] if level < len(folder) else '' for folder in folders], dtype=object)
        several = len(set(zip(names, labels.tolist(), strict=True))) > len(set(names))  # classes in a folder
        if several and len(set(names)) > 1:
            found.append(Attribute('folder' if not found else f'folder {len(found) + 1}', names))
    return found


def cluster_attributes(embeddings: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> list[Attribute]:
    """Return k-means clusters of the normalized embeddings (k = 5 and 20), and the norm of the embeddings.

    The clusters are those of all images together, made without a look at which are wrong.

    Args:
        embeddings (np.ndarray): float (N, D).
        labels (np.ndarray): Class numbers, int64 (N,): a cluster is named after its largest class.
        classes (Sequence[str]): Names.
    """
    from sklearn.cluster import KMeans

    values = np.asarray(embeddings, dtype=np.float64)
    norms = np.linalg.norm(values, axis=1)
    found = [Attribute('norm of the embedding', norms, 'low-norm', 'high-norm', inner=True)]
    rows = values / np.maximum(norms, 1e-12)[:, None]
    distinct = len(np.unique(rows, axis=0))
    for number in _CLUSTERS:
        if len(rows) < number * _IMAGES_OF_A_CLUSTER or distinct < number:
            continue
        of = KMeans(number, n_init=4, random_state=0).fit_predict(rows)
        names = []
        for cluster in range(number):
            inside = labels[of == cluster]
            label, count = Counter(inside.tolist()).most_common(1)[0]
            names.append(f'{cluster + 1} of {number} ({count} of {len(inside)} {is_or_are(count)} {classes[label]})')
        found.append(Attribute('cluster', np.array([names[one] for one in of], dtype=object), inner=True))
    return found


def slices_of(attribute: Attribute) -> list[Slice]:
    """Return the slices of one attribute that have at least 5 images inside and outside.

    Of texts one for each value, of the 50 most frequent ones. Of numbers the tails of 5 to 50 % of the
    images at both ends, the fifths between, and what lies beyond the widest gap; thresholds are rounded to two or three
    digits before the images are divided by them.
    """
    members = _tails_of(attribute) if attribute.is_numeric else _values_of(attribute)
    seen: set[bytes] = set()
    found = []
    for one in members:
        inside = int(one.members.sum())
        key = one.members.tobytes()
        if FEWEST <= inside <= len(one.members) - FEWEST and key not in seen:
            seen.add(key)
            found.append(one._replace(brought=int(attribute.brought), inner=attribute.inner))
    return found


def _values_of(attribute: Attribute) -> list[Slice]:
    counts = Counter(value for value in attribute.values if value)
    return [
        Slice((attribute.name,), f'{attribute.name} {_shown(value)}', '', attribute.values == value)
        for value, _ in counts.most_common(_MOST_VALUES)
    ]


def _shown(value: str) -> str:
    return value if len(value) <= 60 else f'{value[:57]}...'


def _tails_of(attribute: Attribute) -> list[Slice]:
    values, name = attribute.values, attribute.name
    known = np.sort(values[~np.isnan(values)])
    if len(known) < 2 * FEWEST or known[0] == known[-1]:
        return []

    def at(share: float) -> float:
        return _rounded(float(np.quantile(known, share)), known)

    def below(threshold: float, coarse: bool) -> Slice:
        condition = f'{name} < {threshold:.10g}'
        return Slice((name,), condition, attribute.low, values < threshold, coarse=coarse)

    def above(threshold: float, coarse: bool) -> Slice:
        condition = f'{name} >= {threshold:.10g}'
        return Slice((name,), condition, attribute.high, values >= threshold, coarse=coarse)

    gap = _gap(known)
    found = [] if gap is None else [below(gap, True), above(gap, True)]
    for share in (*_PAIR_TAILS, *_TAILS):  # the same threshold twice is one slice
        found += [below(at(share), share in _PAIR_TAILS), above(at(1 - share), share in _PAIR_TAILS)]
    for low, high in pairwise(_MIDDLE):
        start, end = at(low), at(high)
        condition = f'{start:.10g} <= {name} < {end:.10g}'
        found.append(Slice((name,), condition, '', (values >= start) & (values < end), coarse=False))
    return found


def _rounded(threshold: float, known: np.ndarray) -> float:
    """Round to the fewest digits that resolve 1/50 of the range between the 5 % and 95 % quantiles."""
    low, high = np.quantile(known, [0.05, 0.95])
    step = (high - low or known[-1] - known[0]) / 50
    return round(threshold, -int(np.floor(np.log10(step))))


def _gap(known: np.ndarray) -> Optional[float]:
    """Return a number in the widest gap between sorted values, if that gap is wide enough to be a natural split."""
    inner = known[FEWEST - 1 : len(known) - FEWEST + 1]
    steps = np.diff(inner)
    if not len(steps):
        return None
    widest = int(steps.argmax())
    low, high = inner[widest], inner[widest + 1]
    if high - low < (known[-1] - known[0]) / 10:
        return None
    rounded = _rounded(float(low + high) / 2, known)
    return rounded if low < rounded <= high else float(low + high) / 2


def pairs_of(slices: Sequence[Slice], most: int) -> list[Slice]:
    """Return at most ``most`` intersections of two coarse slices of different attributes.

    Those with attributes that the user has brought come first, then the largest. One that is nearly one of its two
    slices is left out.
    """
    coarse = [one for one in slices if one.coarse]
    rows = np.stack([one.members for one in coarse]).astype(np.float32) if coarse else np.zeros((0, 0), np.float32)
    both = rows @ rows.T
    sizes = both.diagonal()
    firsts, seconds = np.triu_indices(len(coarse), 1)
    common = both[firsts, seconds]
    own = np.minimum(sizes[firsts], sizes[seconds])
    brought = np.array([coarse[a].brought + coarse[b].brought for a, b in zip(firsts, seconds, strict=True)])
    kept = np.flatnonzero((common >= FEWEST) & (common <= _SAME * own))
    found: list[Slice] = []
    seen: set[bytes] = set()
    for place in kept[np.lexsort((-common[kept], -brought[kept]))] if len(kept) else ():
        one, other = coarse[firsts[place]], coarse[seconds[place]]
        members = one.members & other.members
        key = members.tobytes()
        if one.attributes == other.attributes or key in seen:
            continue
        seen.add(key)
        adjective = ', '.join(filter(None, (one.adjective, other.adjective)))
        found.append(
            Slice(
                one.attributes + other.attributes,
                f'{one.condition} and {other.condition}',
                adjective,
                members,
                one.brought + other.brought,
                inner=one.inner or other.inner,
            )
        )
        if len(found) == most:
            break
    return found
