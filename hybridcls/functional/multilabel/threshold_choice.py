"""Choose a threshold for the scores of each class from labelled images."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ['ThresholdChoice', 'f1_thresholds', 'precision_thresholds']


class ThresholdChoice(NamedTuple):
    """Thresholds, and their scores on the images that they were chosen on; shape (C,) each.

    Args:
        thresholds (Tensor): A class is predicted where its score is >= this; float32, NaN without a positive.
        precision (Tensor): Of the images with this prediction the share that has the class, float64.
        recall (Tensor): Of the images with the class the share that is predicted, float64.
    """

    thresholds: Tensor
    precision: Tensor
    recall: Tensor

    @property
    def f1(self) -> Tensor:
        """The harmonic mean of precision and recall, float64, shape (C,)."""
        return 2 * self.precision * self.recall / (self.precision + self.recall)


def f1_thresholds(scores: Tensor, targets: Tensor) -> ThresholdChoice:
    """Choose for each class the threshold with the largest F1; the highest of equally good ones.

    Thresholds lie in the middle between two scores that occur.

    Args:
        scores (Tensor): Probabilities, shape (N, C), any floating dtype.
        targets (Tensor): 1 where an image has the class, else 0; shape (N, C).

    Returns:
        ThresholdChoice: A class without positives has NaN everywhere: any threshold is as good.

    Example:
        >>> scores = torch.tensor([[0.9], [0.8], [0.6], [0.1]])
        >>> choice = f1_thresholds(scores, torch.tensor([[1], [0], [1], [0]]))
        >>> round(choice.thresholds.item(), 4), choice.recall.item(), round(choice.f1.item(), 4)
        (0.35, 1.0, 0.8)
    """
    cuts = _Cuts(scores, targets)
    return cuts.choose(2 * cuts.hits / (cuts.predicted + cuts.positives))


def precision_thresholds(scores: Tensor, targets: Tensor, precision: float) -> ThresholdChoice:
    """Choose for each class the threshold with the largest recall whose precision is at least ``precision``.

    Where none has, it is the one with the largest precision, and of several that with the largest recall.

    Args:
        scores (Tensor), targets (Tensor): As for :func:`f1_thresholds`.
        precision (float): In (0, 1].

    Example:
        >>> scores = torch.tensor([[0.9], [0.8], [0.6], [0.1]])
        >>> choice = precision_thresholds(scores, torch.tensor([[1], [0], [1], [0]]), precision=0.9)
        >>> round(choice.thresholds.item(), 4), choice.precision.item(), choice.recall.item()
        (0.85, 1.0, 0.5)
    """
    cuts = _Cuts(scores, targets)
    reached = cuts.hits / cuts.predicted
    recall = cuts.hits / cuts.positives
    # Precision that suffices counts as 1 + recall; below, a little recall decides between equal precisions.
    return cuts.choose(torch.where(reached >= precision - 1e-12, 1 + recall, reached + 1e-9 * recall))


class _Cuts:
    """All distinct thresholds: one below each score of a class, descending. Shapes (N, C), float64."""

    def __init__(self, scores: Tensor, targets: Tensor) -> None:
        self.scores, order = scores.double().sort(0, descending=True)
        hit = targets.gather(0, order).double()
        self.hits = hit.cumsum(0)
        self.positives = self.hits[-1]
        self.predicted = torch.arange(1, len(scores) + 1, dtype=torch.float64, device=scores.device).unsqueeze(1)

    def choose(self, quality: Tensor) -> ThresholdChoice:
        """Choose the cut of the highest quality, the first of equal ones; equal scores are never separated."""
        below_all = torch.where(self.scores[-1:] > 0, 0.0, -1.0)
        following = torch.cat([self.scores[1:], below_all.to(self.scores.dtype)])
        quality = quality.masked_fill(following == self.scores, -torch.inf)
        best = quality.argmax(0, keepdim=True)

        def of_best(values: Tensor) -> Tensor:
            return values.expand_as(quality).gather(0, best).squeeze(0)

        lower, upper = of_best(following), of_best(self.scores)
        middle = ((lower + upper) / 2).clamp(min=0).float()
        thresholds = torch.where(middle.double() > lower, middle, upper.float())  # neighbours in float32
        none = self.positives == 0
        precision, recall = of_best(self.hits / self.predicted), of_best(self.hits) / self.positives
        return ThresholdChoice(*(values.masked_fill(none, torch.nan) for values in (thresholds, precision, recall)))
