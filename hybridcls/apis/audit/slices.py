"""Find slices: groups of images in which a model fails more often than elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from hybridcls.checks import counted
from hybridcls.functional.metrics.excess_tests import ExcessTests, excess_family
from hybridcls.functional.metrics.intervals import share_interval

from .slice_attributes import FEWEST, Attribute, Slice, pairs_of, slices_of

__all__ = ['FoundSlice', 'SliceSearch', 'class_strata', 'find_slices']

_MOST_PAIRS = 1000
_MOST_NUMBERS = 3_000_000_000  # of the distributions of all pairs: a number takes a nanosecond
_IMAGES_OF_A_CLASS = 10
_CONFIDENCE = 0.95
_ALSO = 3
_MOST_SLICES = 8  # of an outcome
_SAME = 0.9
_NO_EXCESS = 0.01
_CLUSTER_OF_A_CLASS = ('class',), ('cluster',)


@dataclass
class FoundSlice:
    """A slice in which an outcome (such as an error) is more frequent than elsewhere.

    Args:
        name (str): In words.
        condition (str): Which images these are.
        attributes (tuple[str, ...]): One or two.
        outcome (str): What is more frequent.
        images (int): How many images.
        count (int): How many of them have the outcome.
        share (float), low (float), high (float): Which share, and its exact 95 % interval.
        elsewhere (float), elsewhere_low (float), elsewhere_high (float): The same of the other images that are in no
            slice before it.
        expected (float): The share that other images of the same classes have; of a class without any, ``elsewhere``.
        of_all (float): Which share of all images with the outcome are in it.
        p_value (float): Of the exact test.
        by_chance (float): With which probability shuffled outcomes give any slice of its kind evidence as strong.
        further (bool): Whether images of the slices before it are left out: of these it is, and of its numbers.
        earlier (bool): Whether there are slices before it, whose images are left out of ``elsewhere``.
        same_classes (bool): Whether there are other images of its classes.
        also (list[str]): Slices that say the same: found, too, but not without the images of this one.
        members (np.ndarray): Positions of the images.
    """

    name: str
    condition: str
    attributes: tuple[str, ...]
    outcome: str
    images: int
    count: int
    share: float
    low: float
    high: float
    elsewhere: float
    elsewhere_low: float
    elsewhere_high: float
    expected: float
    of_all: float
    p_value: float
    by_chance: float
    further: bool = False
    earlier: bool = False
    same_classes: bool = True
    also: list[str] = field(default_factory=list)
    members: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def sentence(self, what: str = 'wrong') -> str:
        """Describe the slice in a sentence."""
        further = ' that are in no slice above' if self.further else ''
        others = 'images that are in no slice above' if self.earlier else 'other images'
        text = (
            f'Of {self.images} {self.name}{further}, {self.count} are {what}: {100 * self.share:.0f} % '
            f'[{100 * self.low:.0f}, {100 * self.high:.0f}]. Of the {others}, {100 * self.elsewhere:.1f} % '
            f'[{100 * self.elsewhere_low:.1f}, {100 * self.elsewhere_high:.1f}] are. The slice has '
            f'{100 * self.of_all:.0f} % of all images that are {what}.'
        )
        if self.same_classes:
            text += f' Of other images of the same classes, {100 * self.expected:.1f} % are.'
        return text

    def numbers(self) -> dict[str, Any]:
        """Return the slice in JSON's types, without the images."""
        found = asdict(self)
        found['attributes'] = list(self.attributes)
        del found['members']
        return found


@dataclass
class SliceSearch:
    """The result of :func:`find_slices`.

    Args:
        found (list[FoundSlice]): By outcome, in the order of :func:`find_slices`.
        tested (int): How many slices there are.
        rate (float): The probability of finding any slice, at most, where the attributes say nothing.
        notes (list[str]): What a reader has to know.
    """

    found: list[FoundSlice] = field(default_factory=list)
    tested: int = 0
    rate: float = 0.05
    notes: list[str] = field(default_factory=list)


def class_strata(labels: np.ndarray, fewest: int = _IMAGES_OF_A_CLASS) -> tuple[np.ndarray, int]:
    """Return the stratum of each image (its class), and how many images share the stratum of all small classes.

    Inside a class of one or two images nothing can be compared.
    """
    classes, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    small = counts < fewest
    strata = np.where(small[place], len(classes), place)
    return np.unique(strata, return_inverse=True)[1], int(small[place].sum())


def find_slices(
    attributes: Sequence[Attribute],
    outcomes: Mapping[str, np.ndarray],
    labels: np.ndarray,
    rate: float = 0.05,
    seed: int = 0,
) -> SliceSearch:
    """Find slices of images in which an outcome is more frequent than elsewhere.

    Slices of one attribute and of two are compared inside the classes, so that a hard class does not blame its
    brightness; those of the attribute ``'class'`` over all images. Each outcome and each of these three families has an
    equal part of ``rate``. See :func:`~hybridcls.functional.metrics.excess_tests.excess_family` for what is certain.

    The slice with the strongest evidence is taken, or a part of it that explains it; a class, which may be hard for
    what its images have in common, and the model's own attributes, which may be symptoms, only where no other is found.
    Then the search begins again among
    the images that are left, until nothing is found. So each slice of the list says something new, and the many that
    overlap with it are named at it.

    Args:
        attributes (Sequence[Attribute]): Of N images.
        outcomes (Mapping[str, np.ndarray]): By name, such as ``'wrong'``: which images have it, bool (N,).
        labels (np.ndarray): Class numbers, (N,).
        rate (float): In (0, 1). Defaults to 0.05.
        seed (int): Of the shuffles. Defaults to 0.

    Returns:
        SliceSearch: What was found; the order of the images does not matter.
    """
    strata, pooled = class_strata(labels)
    singles = _distinct([one for attribute in attributes if attribute.name != 'class' for one in slices_of(attribute)])
    classes = [one for attribute in attributes if attribute.name == 'class' for one in slices_of(attribute)]
    pairs = pairs_of([*singles, *classes], _MOST_PAIRS)
    families = [
        (slices, of) for slices, of in ((classes, np.zeros_like(strata)), (singles, strata), (pairs, strata)) if slices
    ]
    search = SliceSearch(tested=sum(len(slices) for slices, _ in families), rate=rate)
    if pooled:
        search.notes.append(
            f'Classes with fewer than {_IMAGES_OF_A_CLASS} images, too few to be compared inside a class, count as '
            f'one: {counted(pooled, "image")}.'
        )
    level = rate / max(1, len(outcomes) * len(families))
    for name, marked in outcomes.items():
        rest, marked = np.ones(len(labels), dtype=bool), np.asarray(marked, dtype=bool)
        kept: list[Slice] = []
        before: list[_Candidate] = []
        while len(kept) < _MOST_SLICES:
            candidates = _candidates(families, marked, rest, level, seed)
            if kept:  # what was found, and is not without the images of the last slice, says the same
                now = {one.slice.condition for one in candidates} | {kept[-1].condition}
                gone = [one.slice for one in before if one.slice.condition not in now]
                simple_first = sorted(gone, key=lambda one: len(one.attributes))
                search.found[-1].also = [one.name for one in simple_first[:_ALSO]]
            if not candidates:
                break
            best = _sharpest(candidates, marked, rest, strata)
            search.found.append(_described(best, name, marked, rest, strata, bool(kept)))
            kept.append(best.slice)
            rest, before = rest & ~best.slice.members, candidates
    return search


def _distinct(slices: Sequence[Slice]) -> list[Slice]:
    """Drop slices with the same images as an earlier one."""
    return list({one.members.tobytes(): one for one in reversed(slices)}.values())[::-1]


def _rank(one: '_Candidate') -> tuple[bool, bool, float, str]:
    """Sort key: causes come before a whole class or a symptom of the model, then the strongest evidence first."""
    slice_ = one.slice
    return slice_.inner, slice_.attributes == ('class',), one.p_value * one.tests, slice_.condition


class _Candidate(NamedTuple):
    slice: Slice
    p_value: float
    by_chance: float
    tests: int


def _candidates(
    families: Sequence[tuple[list[Slice], np.ndarray]], marked: np.ndarray, rest: np.ndarray, level: float, seed: int
) -> list[_Candidate]:
    """Find the slices with an excess among the remaining images, in the order of :func:`_rank`."""
    found = []
    for slices, strata in families:
        members = np.stack([one.members for one in slices])[:, rest]
        inside = members.sum(1)
        large = np.flatnonzero((inside >= FEWEST) & (inside <= rest.sum() - FEWEST))
        tests = ExcessTests(members[large], strata[rest], marked[rest])
        family = excess_family(tests, level, seed)
        found += [
            _Candidate(slices[large[k]], float(tests.p_values[k]), float(family.by_chance[k]), len(large))
            for k in np.flatnonzero(family.by_chance <= level)
        ]
    return sorted(found, key=_rank)


def _sharpest(candidates: Sequence[_Candidate], marked: np.ndarray, rest: np.ndarray, strata: np.ndarray) -> _Candidate:
    """Return the first slice, or the part of it that explains its whole excess."""
    best = candidates[0]
    whole = best.slice.members & rest
    for one in candidates[1:]:
        # A part of a class may be a cluster; what else the model has of its own are symptoms.
        if one.slice.inner > best.slice.inner and (best.slice.attributes, one.slice.attributes) != _CLUSTER_OF_A_CLASS:
            continue
        part = one.slice.members & whole
        if part.sum() < _SAME * (one.slice.members & rest).sum() or part.sum() > _SAME * whole.sum():
            continue
        without = rest & ~part
        around = ExcessTests((whole & ~part)[None, without], strata[without], marked[without]).p_values[0]
        within = ExcessTests(part[None, whole], strata[whole], marked[whole]).p_values[0]
        if around > _NO_EXCESS and within < _NO_EXCESS / len(candidates):
            return one
    return best


def _described(
    one: _Candidate, outcome: str, marked: np.ndarray, rest: np.ndarray, strata: np.ndarray, further: bool
) -> FoundSlice:
    inside, outside = one.slice.members & rest, ~one.slice.members & rest
    images, count = int(inside.sum()), int((inside & marked).sum())
    others, other_count = int(outside.sum()), int((outside & marked).sum())
    ends = share_interval(count, images, _CONFIDENCE)
    elsewhere = share_interval(other_count, others, _CONFIDENCE)
    # Of each class the share outside of the slice; of a class that lies in it, that of all.
    number = int(strata.max()) + 1
    of_class = np.bincount(strata[outside], minlength=number)
    wrong = np.bincount(strata[outside & marked], minlength=number)
    shares = np.where(of_class > 0, wrong / np.maximum(of_class, 1), other_count / others)
    return FoundSlice(
        name=one.slice.name,
        condition=one.slice.condition,
        attributes=one.slice.attributes,
        outcome=outcome,
        images=images,
        count=count,
        share=count / images,
        low=ends.low,
        high=ends.high,
        elsewhere=other_count / others,
        elsewhere_low=elsewhere.low,
        elsewhere_high=elsewhere.high,
        expected=float(shares[strata[inside]].mean()),
        of_all=count / int(marked.sum()),
        p_value=one.p_value,
        by_chance=one.by_chance,
        further=further and bool((one.slice.members & ~rest).any()),
        earlier=further,
        same_classes=bool((of_class[strata[inside]] > 0).any()),
        members=np.flatnonzero(inside),
    )
