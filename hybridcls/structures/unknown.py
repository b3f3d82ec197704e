"""Images of no known category, and how they are marked."""

from collections.abc import Sequence
from typing import Optional

import torch
from mmpretrain.structures import DataSample

__all__ = ['UNKNOWN_LABEL', 'known_rows']

UNKNOWN_LABEL = -1
"""The ``gt_label`` of an image whose category is none of the model's classes: it is to be rejected, in tests."""


def known_rows(data_samples: Sequence[DataSample], num_classes: Optional[int] = None) -> list[int]:
    """Return the positions of the samples that are of none of the unknown classes; those without any label are not.

    Args:
        data_samples (Sequence[DataSample]): With ``gt_label``, or without.
        num_classes (int, optional): A label from here on is that of a class the model does not have, as -1 is.

    Example:
        >>> known_rows([DataSample().set_gt_label(label) for label in (3, -1, 0)])
        [0, 2]
        >>> known_rows([DataSample().set_gt_label(label) for label in (3, -1, 0)], num_classes=3)
        [2]
    """
    single = [row for row, sample in enumerate(data_samples) if 'gt_label' in sample and sample.gt_label.numel() == 1]
    if not single:
        return list(range(len(data_samples)))
    labels = torch.cat([data_samples[row].gt_label.reshape(1) for row in single]).tolist()  # waits for a GPU once
    unknown = {
        row
        for row, label in zip(single, labels, strict=True)
        if label == UNKNOWN_LABEL or (num_classes is not None and label >= num_classes)
    }
    return [row for row in range(len(data_samples)) if row not in unknown]
