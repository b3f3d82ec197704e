"""Scores of a multi-label model on images with known labels."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Optional

import numpy as np
import torch

from hybridcls.checks import counted
from hybridcls.evaluation import AveragePrecision

from .answer import Answer

__all__ = ['ClassScores', 'MultiLabelReport']


class ClassScores(NamedTuple):
    """The scores of one class, in [0, 1].

    Args:
        average_precision (float, optional): Of its scores; None where not all scores are known.
        precision (float), recall (float), f1 (float): Of the answers, at the model's thresholds; 0 where none counts.
        images (int): With this label.
    """

    average_precision: Optional[float]
    precision: float
    recall: float
    f1: float
    images: int


@dataclass
class MultiLabelReport:
    """Counts and scores of predictions, computed as ``AveragePrecision`` and ``MultiLabelMetric`` of a test do.

    Args:
        classes (tuple[str, ...]): The model's.
        images (Counter[str]): Images with a label, by class.
        answered (Counter[str]): Images that were answered with a class.
        right (Counter[str]): Both.
        labelled (int): Images whose labels are known, be it that they have none.
        unlabelled (int): Images without known labels, or with none that the model has a class for.
    """

    unanswered: ClassVar[int] = 0  # a model of several labels has no threshold below which it says 'unknown'
    classes: tuple[str, ...] = ()
    images: Counter = field(default_factory=Counter)
    answered: Counter = field(default_factory=Counter)
    right: Counter = field(default_factory=Counter)
    labelled: int = 0
    unlabelled: int = 0

    def __post_init__(self) -> None:
        self._scores: list[np.ndarray] = []
        self._truths: list[list[int]] = []

    def add(self, answer: Answer) -> None:
        """Add a prediction; its label is a table's cell, ``a|b``, or ``''`` for an image without labels."""
        if answer.label is None or answer.class_name is None or answer.scores is None:
            self.unlabelled += 1
            return
        true, said = _names(answer.label), _names(answer.class_name)
        self.labelled += 1
        self.images.update(true)
        self.answered.update(said)
        self.right.update(true & said)
        self._scores.append(answer.scores)
        self._truths.append([number for number, name in enumerate(self.classes) if name in true])

    @property
    def f1(self) -> Optional[float]:
        """The macro F1 over all classes of the model; a class without images counts as 0. None without labels."""
        return sum(map(self._f1, self.classes)) / len(self.classes) if self.labelled else None

    def mean_average_precision(self) -> Optional[float]:
        """Return the mean average precision over classes with images; None without any, or after a resumed run."""
        known = [one for one in self._average_precisions().values() if one is not None]
        return sum(known) / len(known) if known else None

    def by_class(self) -> dict[str, ClassScores]:
        """Return the scores of each class that occurs, in the order of the model's classes."""
        precisions = self._average_precisions()
        return {
            name: ClassScores(
                precisions.get(name),
                _share(self.right[name], self.answered[name]),
                _share(self.right[name], self.images[name]),
                self._f1(name),
                self.images[name],
            )
            for name in self.classes
            if self.images[name]
        }

    def _f1(self, name: str) -> float:
        return _share(2 * self.right[name], self.images[name] + self.answered[name])

    def _average_precisions(self) -> dict[str, Optional[float]]:
        if not any(self.images.values()) or len(self._scores) < self.labelled:
            return {}
        metric = AveragePrecision(average=None)
        samples = [
            dict(pred_score=torch.from_numpy(scores), gt_label=torch.tensor(truth, dtype=torch.int64))
            for scores, truth in zip(self._scores, self._truths, strict=True)
        ]
        each = metric.compute_metrics([metric.prepared(sample) for sample in samples])['AP_classwise']
        return {name: one / 100 for name, one in zip(self.classes, each, strict=True) if one == one}

    def as_dict(self) -> dict[str, Any]:
        """Return the report as a JSON-serializable dict."""
        return dict(
            mAP=self.mean_average_precision(),
            f1=self.f1,
            images=self.labelled,
            unlabelled=self.unlabelled,
            by_class={name: one._asdict() for name, one in self.by_class().items()},
        )

    def state(self) -> dict[str, Any]:
        """Return the counts for :meth:`restore` in JSON's types, without the scores, which may be many."""
        counts = dict(images=dict(self.images), answered=dict(self.answered), right=dict(self.right))
        return dict(counts, labelled=self.labelled, unlabelled=self.unlabelled)

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from the :meth:`state` of an interrupted run."""
        self.images, self.answered, self.right = (Counter(state[key]) for key in ('images', 'answered', 'right'))
        self.labelled, self.unlabelled = state['labelled'], state['unlabelled']

    def __str__(self) -> str:
        if self.f1 is None:
            return 'no labelled image'
        mean, scores = self.mean_average_precision(), self.by_class()
        width = max(len(name) for name in [*scores, 'class'])
        lines = [
            f'mAP {_percent(mean).strip()}, F1 {self.f1:.1%} (mean of '
            f'{counted(len(self.classes), "class", "classes")}), of '
            f'{counted(self.labelled, "image")} with labels',
            f'{"class":<{width}}  {"AP":>6}  {"precision":>9}  {"recall":>6}  {"F1":>6}  images',
        ]
        lines += [
            f'{name:<{width}}  {_percent(one.average_precision)}  {one.precision:9.1%}  {one.recall:6.1%}  '
            f'{one.f1:6.1%}  {one.images:6}'
            for name, one in scores.items()
        ]
        if mean is None and scores:
            lines.append(
                '(mAP needs all scores, and this run went on from an earlier one: `hybridcls test` measures it)'
            )
        if self.unlabelled:
            lines.append(f'({counted(self.unlabelled, "image")} without a label that the model knows)')
        return '\n'.join(lines)


def _names(label: str) -> set[str]:
    return {name for name in label.split('|') if name}


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _percent(share: Optional[float]) -> str:
    return '     -' if share is None else f'{share:6.1%}'
