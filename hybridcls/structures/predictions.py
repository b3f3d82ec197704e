"""Write a model's predictions to mmpretrain's DataSample."""

from collections.abc import Mapping, Sequence
from typing import Optional

import torch
from mmengine.structures import BaseDataElement
from mmpretrain.structures import DataSample
from torch import Tensor

from .views import count_views

__all__ = ['move_to_cpu', 'predicted_labels', 'write_predictions']


def write_predictions(
    caller: str,
    data_samples: Optional[Sequence[Optional[DataSample]]],
    embeddings: Tensor,
    scores: Optional[Tensor] = None,
    uncertainties: Optional[Mapping[str, Tensor]] = None,
    thresholds: Optional[Tensor] = None,
) -> list[DataSample]:
    """Write embeddings and scores to samples; views of an image are averaged.

    Fields, all float32 and detached, on the device of the tensors: ``embedding`` (D,); with scores, ``pred_score``
    (C,) and ``pred_label`` (1,) int64, the class of the largest score; and each uncertainty, ().

    Predictions of several labels an image have ``thresholds`` (C,), which tells them from others: ``pred_score`` are
    then the probabilities of the classes, each for itself (they do not add up to 1), and ``pred_label`` the numbers of
    the classes whose score is at least the class's threshold, in rising order: (n,) int64, n from 0 to C.

    The uncertainties have the same names for every model; a larger value means more uncertainty: ``total``,
    ``aleatoric`` and ``epistemic`` in nats, ``vacuity`` in (0, 1].

    Args:
        caller (str): Name used as the error prefix.
        data_samples (Sequence[DataSample | None], optional): B samples, changed in place; None: one new sample for
            each row.
        embeddings (Tensor): Shape (V * B, D), view by view.
        scores (Tensor, optional): Probabilities, shape (V * B, C).
        uncertainties (Mapping[str, Tensor], optional): By name, shape (B,), one value for all views.
        thresholds (Tensor, optional): Of scores that are each a class's own, shape (C,). Defaults to None: one class
            an image.

    Returns:
        list[DataSample]: The B samples.

    Raises:
        ValueError: If the number of rows is not a multiple of B, or a sample has another ``num_classes``.

    Example:
        >>> sample, = write_predictions('LinearHead', None, torch.ones(1, 4), torch.tensor([[0.1, 0.7, 0.2]]))
        >>> sample.pred_label, sample.embedding.shape
        (tensor([1]), torch.Size([4]))
    """
    if data_samples is None:
        data_samples = [None] * len(embeddings)
    num_views = count_views(caller, len(embeddings), len(data_samples))
    samples = [DataSample() if sample is None else sample for sample in data_samples]
    for sample, embedding in zip(samples, _mean_of_views(embeddings, num_views), strict=True):
        sample.set_field(embedding, 'embedding', dtype=Tensor)
    for name, values in (uncertainties or {}).items():
        for sample, value in zip(samples, values.detach().to(torch.float32), strict=True):
            sample.set_field(value, name, dtype=Tensor)
    if scores is None:
        return samples
    scores = _mean_of_views(scores, num_views)
    if thresholds is not None:
        thresholds = thresholds.detach().to(scores.device, torch.float32, copy=True)  # one for all samples
    for sample, score, label in zip(samples, scores, predicted_labels(scores, thresholds), strict=True):
        if sample.get('num_classes', len(score)) != len(score):
            raise ValueError(
                f'{caller}: expected num_classes={sample.num_classes}, as in the data, got {len(score)}. Set '
                "model.head.num_classes to the dataset's number of classes."
            )
        sample.set_pred_score(score).set_pred_label(label)
        if thresholds is not None:
            sample.set_field(thresholds, 'thresholds', dtype=Tensor)
    return samples


def predicted_labels(scores: Tensor, thresholds: Optional[Tensor] = None) -> Sequence[Tensor]:
    """Return the ``pred_label`` of each row of scores (B, C): the largest score, or those at or above their thresholds.

    Example:
        >>> predicted_labels(torch.tensor([[0.1, 0.7, 0.6]]), torch.tensor([0.5, 0.5, 0.5]))
        (tensor([1, 2]),)
    """
    if thresholds is None:
        return list(scores.argmax(1, keepdim=True))
    chosen = scores >= thresholds
    return chosen.nonzero()[:, 1].split(chosen.sum(1).tolist())


def move_to_cpu(samples: Sequence[BaseDataElement]) -> None:
    """Move the fields of samples to the CPU, in place, with one copy and one synchronization per field.

    Args:
        samples (Sequence[BaseDataElement]): Of a batch; also what lies below them (``heads``).
    """
    for name in dict.fromkeys(name for sample in samples for name in sample.keys()):  # noqa: SIM118  (no dicts)
        found = [(sample, sample.get(name)) for sample in samples if name in sample]
        below = [value for _, value in found if isinstance(value, BaseDataElement)]
        if below:
            move_to_cpu(below)
        kinds: dict[torch.dtype, dict[int, Tensor]] = {}
        for _, value in found:
            if isinstance(value, Tensor) and value.device.type != 'cpu':
                kinds.setdefault(value.dtype, {})[id(value)] = value
        moved: dict[int, Tensor] = {}
        for tensors in kinds.values():
            parts = torch.cat([one.detach().flatten() for one in tensors.values()]).cpu()
            sizes = [one.numel() for one in tensors.values()]
            for (key, one), part in zip(tensors.items(), parts.split(sizes), strict=True):
                moved[key] = part.view(one.shape).clone()  # a view would be pickled, or kept, with the whole batch
        for sample, value in found:
            if id(value) in moved:
                sample.set_field(moved[id(value)], name, dtype=Tensor)


def _mean_of_views(rows: Tensor, num_views: int) -> Tensor:
    rows = rows.detach().to(torch.float32)
    return rows if num_views == 1 else rows.unflatten(0, (num_views, -1)).mean(0)
