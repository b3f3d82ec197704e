"""Mark and select images of unknown categories."""

from collections.abc import Sequence
from typing import Optional

import torch
from mmpretrain.structures import DataSample

__all__ = ['UNKNOWN_LABEL', 'known_rows']

UNKNOWN_LABEL = -1
"""The ``gt_label`` of an image whose category the model has no class for: tests should reject it."""


def known_rows(data_samples: Sequence[DataSample], num_classes: Optional[int] = None) -> list[int]:
    """Return the positions of the samples whose class is known; samples without a label count as known.

    Args:
        data_samples (Sequence[DataSample]): With ``gt_label``, or without.
        num_classes (int, optional): A label >= this is unknown, as -1 is.

    Example:
        >>> known_rows([DataSample().set_gt_label(label) for label in (3, -1, 0)])
        [0, 2]
        >>> known_rows([DataSample().set_gt_label(label) for label in (3, -1, 0)], num_classes=3)
        [2]
    """
    single = [row for row, sample in enumerate(data_samples) if 'gt_label' in sample and sample.gt_label.numel() == 1]
    if not single:
        return list(range(len(data_samples)))
    labels = torch.cat(
        [data_samples[row].gt_label.reshape(1) for row in single]
    ).tolist()  # synchronizes with a GPU once
    unknown = {
        row
        for row, label in zip(single, labels, strict=True)
        if label == UNKNOWN_LABEL or (num_classes is not None and label >= num_classes)
    }
    return [row for row in range(len(data_samples)) if row not in unknown]
