"""The accuracy of a model on labelled images."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Optional

from hybridcls.checks import counted

from .answer import Answer

__all__ = ['AccuracyReport']


@dataclass
class AccuracyReport:
    """Counts of right answers, by the true class.

    Args:
        classes (tuple[str, ...]): The model's.
        images (Counter[str]): Number of labelled images by class.
        right (Counter[str]): Those that were answered with their class.
        unlabelled (int): Number of images without a label, or with one that the model has no class for.
        unanswered (int): Number of images that were answered with 'unknown', which count nowhere else.
    """

    classes: tuple[str, ...] = ()
    images: Counter = field(default_factory=Counter)
    right: Counter = field(default_factory=Counter)
    unlabelled: int = 0
    unanswered: int = 0

    def add(self, answer: Answer) -> None:
        """Count an answer."""
        if answer.answered is False:
            self.unanswered += 1
            return
        if answer.label is None or answer.class_name is None:
            self.unlabelled += 1
            return
        self.images[answer.label] += 1
        self.right[answer.label] += answer.class_name == answer.label

    @property
    def labelled(self) -> int:
        """Number of images with a label."""
        return sum(self.images.values())

    @property
    def top1(self) -> Optional[float]:
        """The share of labelled images with the right answer, in [0, 1]; None without any."""
        return sum(self.right.values()) / self.labelled if self.labelled else None

    def by_class(self) -> dict[str, float]:
        """Return the share of right answers of each class that occurs, in the order of the model's classes."""
        return {name: self.right[name] / self.images[name] for name in self.classes if self.images[name]}

    def as_dict(self) -> dict[str, Any]:
        """Return what a JSON object says."""
        return dict(
            accuracy=self.top1,
            images=self.labelled,
            unlabelled=self.unlabelled,
            by_class={name: dict(accuracy=share, images=self.images[name]) for name, share in self.by_class().items()},
            **(dict(unanswered=self.unanswered) if self.unanswered else {}),
        )

    def state(self) -> dict[str, Any]:
        """Return what :meth:`restore` needs, in JSON's types."""
        return dict(
            images=dict(self.images),
            right=dict(self.right),
            unlabelled=self.unlabelled,
            unanswered=self.unanswered,
        )

    def restore(self, state: dict[str, Any]) -> None:
        """Count on from the :meth:`state` of another run."""
        self.images, self.right = Counter(state['images']), Counter(state['right'])
        self.unlabelled, self.unanswered = state['unlabelled'], state.get('unanswered', 0)

    def __str__(self) -> str:
        if self.top1 is None:
            return 'no labelled image'
        width = max(len(name) for name in [*self.by_class(), 'accuracy'])
        lines = [f'{"accuracy":<{width}}  {self.top1:6.1%}  of {counted(self.labelled, "image")} with a label']
        lines += [f'{name:<{width}}  {share:6.1%}  of {self.images[name]}' for name, share in self.by_class().items()]
        if self.unlabelled:
            lines.append(f'({counted(self.unlabelled, "image")} without a label that the model knows)')
        return '\n'.join(lines)
