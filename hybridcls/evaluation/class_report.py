"""Report on each class: recall, precision, and confusions."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Optional

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from hybridcls.checks import check_number, listed, verb_of
from hybridcls.functional.metrics import ClassCounts, class_counts, fewest_units, share_interval_by_group
from hybridcls.registry import METRICS

from .prediction_fields import NO_IMAGE, NO_KNOWN_IMAGE, label_of
from .result_bounds import ResultBounds
from .result_names import without_result

__all__ = ['ClassReport', 'Rows']

_SHOWN = 20
# Of the classes. An interval of 95 % covers 89 % of simulated means where each class has one image (37 % lack), 92 % of
# those with two images (14 %), 94 % with three.
_MOST_LACKING = 0.25


class Rows(list):
    """Rows of a table, dicts with the same keys; as text a table of the first of them."""

    def __repr__(self) -> str:
        """Format the table."""
        if not self:
            return '(no rows)'
        lines = [list(self[0]), *([_cell(value) for value in row.values()] for row in self[:_SHOWN])]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = ['  '.join(f'{cell:>{width}}' for cell, width in zip(line, widths, strict=True)) for line in lines]
        more = [f'... and {len(self) - _SHOWN} more'] if len(self) > _SHOWN else []
        return '\n'.join([*text, *more])


_Image = tuple  # label, predicted class, number of classes, group; empty for an unknown one


@METRICS.register_module()
class ClassReport(BaseMetric):
    """Precision, recall and F1 of each class with confidence intervals, and the confusions.

    - ``macro_precision``, ``macro_recall`` (the balanced accuracy), ``macro_f1``: means over the classes that have an
      image, in percent, with ``_low`` and ``_high``, the ends of a bootstrap over images or groups. As in scikit-learn,
      a class that is never predicted has a precision of 0 in the mean. They have no ends where resamples lack a
      quarter of the classes, as where most have one image: the interval would be too narrow.
    - ``table``: a row for each class: ``class``, ``images``, ``predictions``, ``precision_percent``,
      ``recall_percent``, ``f1_percent``, each with ``..._low`` and ``..._high``, and ``insufficient_data``, the names
      of the scores that stand on fewer images (or groups) than an interval needs: 6 at 95 %. What has no image at all
      is None. Each interval is the exact one of a share: F1 is 2 J / (1 + J), with J the share of hits among the images
      that are of the class or predicted as it.
    - ``confusions``: the ``most`` frequent pairs: ``class``, ``predicted_as``, ``images``, and their share of the
      images of the class, ``percent``, with its ends. (The whole matrix: ``ConfusionMatrix``.)

    Images of unknown categories (label -1, or one that the model has no class for) are left out. Three numbers are
    kept of an image.

    Args:
        confidence (float): Of the intervals, in (0, 1). Defaults to 0.95.
        group (str, optional): Field of the samples whose images belong together; the intervals are bootstraps over
            these groups. Defaults to None: images are independent.
        most (int): Rows of ``confusions``. Defaults to 20.
        collect_device (str): As in mmengine's BaseMetric. Defaults to ``'cpu'``.
        prefix (str, optional): Prefix of the names. Defaults to None, which means ``'classes'``.

    Raises:
        ValueError: If a number is out of range.
        MissingFieldError: If samples lack a score, a label or a group.

    Example:
        >>> metric = ClassReport()
        >>> metric.dataset_meta = dict(classes=['cat', 'dog'])
        >>> for label, score in ((0, 0.9), (0, 0.2), (1, 0.1)):
        ...     sample = dict(pred_score=torch.tensor([score, 1 - score]), gt_label=torch.tensor([label]))
        ...     metric.process(None, [sample])
        >>> result = metric.evaluate(size=3)
        >>> result['classes/macro_recall']
        75.0
        >>> result['classes/confusions'][0]['predicted_as'], result['classes/confusions'][0]['percent']
        ('dog', 50.0)
    """

    default_prefix = 'classes'
    units = {'macro_*': '%'}

    def __init__(
        self,
        confidence: float = 0.95,
        group: Optional[str] = None,
        most: int = 20,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        check_number('ClassReport', 'most', most, 0, integer=True)
        self.bounds = ResultBounds('ClassReport', confidence, group)
        self.confidence = confidence
        self.most = most
        macro = dict.fromkeys(['macro_precision', 'macro_recall', 'macro_f1'], 'greater')
        self.directions = {**self.bounds.directions(macro), 'table': None, 'confusions': None}

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the label and the predicted class of each image, and its group."""
        for sample in data_samples:
            label = label_of('ClassReport', sample)
            scores = sample['pred_score']
            # A row that is not a number has no largest one: the image is wrong, as one that is predicted as no class.
            predicted = -1 if scores.isnan().any() else int(scores.argmax())
            group = self.bounds.group_of(sample)
            # Not None for an unknown one: mmengine would drop it, and count an image that pads a batch.
            self.results.append((label.value, predicted, len(scores), group) if label.known else ())

    def compute_metrics(self, results: list[_Image]) -> dict[str, Any]:
        """Count hits and confusions. Runs in the main process, with each image once."""
        images = [image for image in results if image]
        if not images:
            return without_result(self, NO_KNOWN_IMAGE if results else NO_IMAGE)
        classes = images[0][2]
        labels, predicted = torch.tensor([image[:2] for image in images]).T
        predicted = predicted.where(predicted >= 0, classes)  # no class
        groups = [group for *_, group in images]
        counts = class_counts(labels, predicted, classes + 1)
        macro = dict(zip(('macro_precision', 'macro_recall', 'macro_f1'), (100 * counts.macro()).tolist(), strict=True))
        scores: dict[str, Any] = dict(macro)
        if _lacking(labels, groups if self.bounds.group else range(len(labels))) <= _MOST_LACKING:
            scores = self.bounds.of_resamples(
                self, macro, lambda weights: 100 * class_counts(labels, predicted, classes + 1, weights).macro(), groups
            )
        elif self.bounds:
            why = (
                'Too few images of each class for an interval of a mean over classes: a resample has none of more than '
                f'{_MOST_LACKING:.0%} of them, and would say too little of how much the mean varies.'
            )
            ends = [f'{name}_{end}' for name in macro for end in ('low', 'high')]
            scores.update(without_result(self, why, ends))
        names = self._names(classes)
        absent = [names[number] for number in (counts.images[:classes] == 0).nonzero().flatten().tolist()]
        if absent:
            has = verb_of(len(absent), 'has', 'have')
            why = f'{len(absent)} of {classes} classes {has} no image among those evaluated: {listed(absent)}.'
            without_result(self, why, ['recall of these classes'])
        scores['table'] = Rows(self._table(labels, predicted, groups, names, counts))
        scores['confusions'] = Rows(self._confusions(labels, predicted, groups, [*names, '(no class: NaN)'], counts))
        return scores

    def _table(
        self, labels: Tensor, predicted: Tensor, groups: list, names: Sequence[str], counts: ClassCounts
    ) -> Iterable[dict]:
        of_class, as_class = _places(labels, len(names)), _places(predicted, len(names))
        for number, name in enumerate(names):
            own, given = of_class[number], as_class[number]
            either = torch.cat([own, given[labels[given] != number]])
            row: dict[str, Any] = {'class': name, 'images': len(own), 'predictions': len(given)}
            few = []
            for score, places in (('precision', given), ('recall', own), ('f1', either)):
                hits = (labels[places] == number) & (predicted[places] == number)
                inside = [groups[place] for place in places.tolist()]
                low, value, high = self._share(hits, inside)
                if score == 'f1':
                    low, value, high = (2 * share / (1 + share) for share in (low, value, high))
                row.update(_percent(f'{score}_percent', low, value, high))
                if (len(places) if self.bounds.group is None else len({*inside})) < fewest_units(self.confidence):
                    few.append(score)
            yield {**row, 'insufficient_data': few}

    def _confusions(
        self, labels: Tensor, predicted: Tensor, groups: list, names: Sequence[str], counts: ClassCounts
    ) -> Iterable[dict]:
        wrong = (labels != predicted).nonzero().flatten()
        pairs, of_pair = (labels[wrong] * len(names) + predicted[wrong]).unique(return_counts=True)
        for place in of_pair.argsort(descending=True, stable=True)[: self.most].tolist():
            true, other = divmod(int(pairs[place]), len(names))
            own = (labels == true).nonzero().flatten()
            low, share, high = self._share(predicted[own] == other, [groups[position] for position in own.tolist()])
            yield {
                'class': names[true], 'predicted_as': names[other], 'images': int(of_pair[place]),
                **_percent('percent', low, share, high),
            }  # fmt: skip

    def _share(self, hits: Tensor, groups: list) -> tuple[float, float, float]:
        """Return the lower end, the share and the upper end; NaN without images."""
        if not len(hits):
            return math.nan, math.nan, math.nan
        low, high = share_interval_by_group(hits, None if self.bounds.group is None else groups, self.confidence)
        return low, hits.double().mean().item(), high

    def _names(self, classes: int) -> list[str]:
        names = list((self.dataset_meta or {}).get('classes') or ())[:classes]
        return [*map(str, names), *map(str, range(len(names), classes))]


def _places(numbers: Tensor, classes: int) -> list[Tensor]:
    """Return the positions of each class."""
    counts = torch.bincount(numbers, minlength=classes)
    return list(numbers.argsort(stable=True).split(counts.tolist()))[:classes]


def _percent(name: str, low: float, value: float, high: float) -> dict[str, Optional[float]]:
    ends = ((name, value), (f'{name}_low', low), (f'{name}_high', high))
    return {key: None if math.isnan(number) else 100 * number for key, number in ends}


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ', '.join(map(str, value)) or '-'
    return '-' if value is None else f'{value:.1f}' if isinstance(value, float) else str(value)


def _lacking(labels: Tensor, groups: Iterable[Hashable]) -> float:
    """Return which share of the classes a bootstrap resample has no image of, expected over resamples."""
    units = {(label, group) for label, group in zip(labels.tolist(), groups, strict=True)}
    count = len({group for _, group in units})
    of_class = Counter(label for label, _ in units)
    return sum((1 - own / count) ** count for own in of_class.values()) / len(of_class)
