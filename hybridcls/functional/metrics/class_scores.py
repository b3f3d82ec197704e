"""Scores of single-label predictions: rank of the target class, counts by class, precision, recall, F1."""

from typing import NamedTuple, Optional

import torch
from torch import Tensor

__all__ = ['ClassCounts', 'class_counts', 'target_ranks']


def target_ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """Return how many classes rank before the target class; the image is a top-k hit if that is below k.

    Of equal scores the class with the smaller number comes first, as in ``argmax``. Where the target class does not
    exist (a label of -1, say), or a score is NaN, the rank is the largest int64.

    Args:
        scores (Tensor): Shape (N, C), higher is more likely.
        labels (Tensor): int64 (N,).

    Returns:
        Tensor: int64 (N,), from 0.

    Example:
        >>> target_ranks(torch.tensor([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]]), torch.tensor([2, 1]))
        tensor([1, 1])
    """
    classes = scores.shape[1]
    exists = (labels >= 0) & (labels < classes)
    target = torch.where(exists, labels, 0).unsqueeze(1)
    own = scores.gather(1, target)
    earlier = torch.arange(classes, device=scores.device) < target
    ranks = ((scores > own) | ((scores == own) & earlier)).sum(1)
    return ranks.masked_fill(~exists | scores.isnan().any(1), torch.iinfo(torch.int64).max)


class ClassCounts(NamedTuple):
    """Counts of images for each class, float64, (C,) or (R, C) for R resamples.

    Args:
        hits (Tensor): Images of the class that are predicted as it.
        predictions (Tensor): Images that are predicted as the class.
        images (Tensor): Images of the class.
    """

    hits: Tensor
    predictions: Tensor
    images: Tensor

    def precision(self) -> Tensor:
        """Return the precision; NaN for a class that is never predicted."""
        return self.hits / self.predictions

    def recall(self) -> Tensor:
        """Return the recall; NaN for a class without images."""
        return self.hits / self.images

    def f1(self) -> Tensor:
        """Return the harmonic mean of precision and recall; NaN for a class without images and predictions."""
        return 2 * self.hits / (self.predictions + self.images)

    def macro(self) -> Tensor:
        """Return the means of precision, recall and F1 over the classes that have images, (3,) or (R, 3).

        A class that is never predicted has a precision of 0 here, as in scikit-learn.
        """
        has_images = self.images > 0
        count = has_images.sum(-1)
        means = [(values.nan_to_num(0.0) * has_images).sum(-1) / count for values in
                 (self.precision(), self.recall(), self.f1())]  # fmt: skip
        return torch.stack(means, -1)


def class_counts(labels: Tensor, predicted: Tensor, num_classes: int, weights: Optional[Tensor] = None) -> ClassCounts:
    """Count the hits, predictions and images of each class.

    Args:
        labels (Tensor): int64 (N,), each in [0, C).
        predicted (Tensor): int64 (N,), the same.
        num_classes (int): C.
        weights (Tensor, optional): How often each image counts in each of R resamples, float64 (R, N). Defaults to
            None: once.

    Returns:
        ClassCounts: Of shape (C,), or (R, C) with weights.

    Example:
        >>> counts = class_counts(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 3)
        >>> counts.precision(), counts.recall()[:2]
        (tensor([1.0000, 0.5000,    nan], dtype=torch.float64), tensor([0.5000, 1.0000], dtype=torch.float64))
    """
    each = torch.ones(1, len(labels), dtype=torch.float64) if weights is None else weights.double()

    def by_class(numbers: Tensor, counted: Tensor) -> Tensor:
        return each.new_zeros(len(each), num_classes).index_add_(1, numbers, counted)

    hits = by_class(labels, each * (labels == predicted))
    counts = ClassCounts(hits, by_class(predicted, each), by_class(labels, each))
    return counts if weights is not None else ClassCounts(*(count.squeeze(0) for count in counts))
