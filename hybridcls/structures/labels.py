"""Read the labels of the samples of a batch."""

from collections.abc import Sequence
from typing import Optional, Union

import torch
from mmpretrain.structures import DataSample
from torch import Tensor

__all__ = ['read_hard_labels', 'read_multi_targets', 'read_targets']


def read_targets(
    caller: str, data_samples: Sequence[DataSample], device: Union[str, torch.device], num_classes: Optional[int] = None
) -> Tensor:
    """Return the batch's soft labels if it has any (mixup, cutmix), else its hard labels.

    Args:
        caller (str): Name used as the error prefix.
        data_samples (Sequence[DataSample]): B samples with ``gt_score`` (C,) or ``gt_label`` (1,).
        device (str | torch.device): Device of the result.
        num_classes (int, optional): C, to check the labels. Labels on a GPU are not checked, which would synchronize
            (the data preprocessor checks them before the transfer).

    Returns:
        Tensor: float32 (B, C), probabilities; or int64 (B,).

    Raises:
        ValueError: If a sample has no label or several, if labels are out of range, or if soft labels have other than C
            entries.
        TypeError: If a label is not an integer.

    Example:
        >>> read_targets('LinearHead', [DataSample().set_gt_label(3), DataSample().set_gt_label(0)], 'cpu')
        tensor([3, 0])
        >>> read_targets('LinearHead', [DataSample().set_gt_score([0.25, 0.75])], 'cpu')
        tensor([[0.2500, 0.7500]])
    """
    if not _have_scores(data_samples):
        return read_hard_labels(caller, data_samples, device, num_classes)
    scores = _stack_scores(data_samples)
    if num_classes is not None and scores.shape[1] != num_classes:
        raise ValueError(
            f'{caller}: expected soft labels for num_classes={num_classes}, got {scores.shape[1]} classes. Set the '
            'same num_classes in the data preprocessor and the head.'
        )
    return _moved(scores, device)


def read_hard_labels(
    caller: str, data_samples: Sequence[DataSample], device: Union[str, torch.device], num_classes: Optional[int] = None
) -> Tensor:
    """Return one class an image, int64 (B,); see :func:`read_targets`.

    Raises:
        ValueError: Also if the labels are soft. One-hot scores are read as hard labels.

    Example:
        >>> read_hard_labels('ArcFaceHead', [DataSample().set_gt_label(7)], 'cpu', num_classes=5)
        Traceback (most recent call last):
            ...
        ValueError: ArcFaceHead: expected labels in [0, 4] (num_classes=5), got 7. Set num_classes to ...
    """
    if _have_scores(data_samples):
        scores = _stack_scores(data_samples)
        one_hot = ((scores == 1).sum(1) == 1) & ((scores != 0).sum(1) == 1)
        if not bool(one_hot.all()):
            raise ValueError(
                f'{caller}: expected one class for each image, got soft labels (mixup, cutmix). Remove batch_augments '
                '(Mixup, CutMix, ResizeMix) from model.data_preprocessor or model.train_cfg, or use LinearHead, which '
                'takes soft labels.'
            )
        return _moved(scores.argmax(1), device)
    parts = []
    for index, sample in enumerate(data_samples):
        if 'gt_label' not in sample:
            raise _without_label(caller, sample, index)
        if sample.gt_label.numel() != 1:
            name = sample.get('img_path', None) or f'sample {index} of the batch'
            raise ValueError(
                f'{caller}: expected one gt_label for {name}, got {sample.gt_label.tolist()}. '
                'Images with several labels, or none, need a MultiLabelHead.'
            )
        parts.append(sample.gt_label.reshape(1))
    labels = torch.cat(parts)
    if labels.is_floating_point():
        raise TypeError(f'{caller}: expected integer labels, got {labels.dtype}.')
    if num_classes is not None and labels.device.type == 'cpu':
        _check_range(caller, labels, num_classes)
    return _moved(labels.long(), device)


def read_multi_targets(
    caller: str, data_samples: Sequence[DataSample], device: Union[str, torch.device], num_classes: int
) -> Tensor:
    """Return which classes each image has, several or none: float32 (B, C), 1 or 0, or soft labels of a mixup.

    Args:
        caller (str): Name used as the error prefix.
        data_samples (Sequence[DataSample]): B samples with ``gt_label``, a vector of class numbers that may be empty,
            or ``gt_score`` (C,). Numbers outside [0, C), of classes that the model does not have, are left out.
        device (str | torch.device): Device of the result.
        num_classes (int): C.

    Raises:
        ValueError: If a sample has no ``gt_label`` (an empty one is one), or a ``gt_score`` has other than C entries.

    Example:
        >>> samples = [DataSample().set_gt_label(labels) for labels in ([0, 2], [])]
        >>> read_multi_targets('MultiLabelHead', samples, 'cpu', num_classes=3)
        tensor([[1., 0., 1.],
                [0., 0., 0.]])
    """
    if _have_scores(data_samples):
        return read_targets(caller, data_samples, device, num_classes)
    labels = []
    for index, sample in enumerate(data_samples):
        if 'gt_label' not in sample:
            raise _without_label(caller, sample, index)
        labels.append(sample.gt_label.reshape(-1))
    rows = torch.repeat_interleave(torch.tensor([len(own) for own in labels]))
    classes = torch.cat(labels).long()
    known = (classes >= 0) & (classes < num_classes)
    targets = torch.zeros(len(labels), num_classes + 1, device=classes.device)  # one more column: no look at `known`
    targets[rows.to(classes.device), torch.where(known, classes, num_classes)] = 1
    return _moved(targets[:, :num_classes], device)


def _moved(targets: Tensor, device: Union[str, torch.device]) -> Tensor:
    """Move targets without waiting, but to the CPU, where numbers could be read before a GPU has sent them."""
    return targets.to(device, non_blocking=torch.device(device).type != 'cpu')


def _without_label(caller: str, sample: DataSample, index: int) -> ValueError:
    name = sample.get('img_path', None) or f'sample {index} of the batch'
    return ValueError(
        f'{caller}: expected a gt_label for {name}, got none. The loss needs labelled images: does the dataset '
        'provide gt_label, and does PackInputs pack it?'
    )


def _have_scores(data_samples: Sequence[DataSample]) -> bool:
    return bool(data_samples) and all('gt_score' in sample for sample in data_samples)


def _stack_scores(data_samples: Sequence[DataSample]) -> Tensor:
    return torch.stack([sample.gt_score for sample in data_samples]).float()


def _check_range(caller: str, labels: Tensor, num_classes: int) -> None:
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong):
        raise ValueError(
            f'{caller}: expected labels in [0, {num_classes - 1}] (num_classes={num_classes}), got {int(wrong[0])}. '
            'Set num_classes to the number of classes of the dataset, or fix the annotation.'
        )
