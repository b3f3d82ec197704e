"""Aggregate several predictions of the same images, with the uncertainty from their disagreement."""

from collections.abc import Sequence
from typing import Any, Optional

import torch
from mmpretrain.structures import DataSample
from torch import Tensor

from hybridcls.functional.evidential import mixture_uncertainty
from hybridcls.old_modules import answer_old_names
from hybridcls.structures import predicted_labels

from ..heads.head import is_multi_label, label_thresholds, main_head

__all__ = ['aggregate_predictions', 'mixture_fields']


def aggregate_predictions(
    caller: str, samples: list[DataSample], members: Sequence[Sequence[DataSample]], head: Any = None
) -> list[DataSample]:
    """Write the mean score of T members, and their uncertainties, to the samples.

    Fields: ``pred_score`` (C,), the mean; ``pred_label`` (1,), its largest; in nats ``total`` = ``aleatoric`` +
    ``epistemic``, see :func:`hybridcls.functional.mixture_uncertainty`. Where the members are evidential, what they do
    not know themselves is epistemic, too, and ``vacuity`` is the mean of theirs. Other fields stay.

    Of predictions with ``thresholds`` (several labels an image) the labels are those whose mean score is at least the
    mean of the members' thresholds, and the uncertainties are sums over the classes, each of which is there or not.

    Args:
        caller (str): Name used as the error prefix.
        samples (list[DataSample]): B samples, changed in place.
        members (Sequence[Sequence[DataSample]]): T times B samples with ``pred_score``.
        head (nn.Module, optional): Of the members. mmpretrain's heads of several labels write no ``thresholds``: then
            theirs are read from it, or the ``topk`` best mean scores are the labels. Defaults to None.

    Returns:
        list[DataSample]: The samples.

    Raises:
        ValueError: If the members have no scores.
    """
    if samples and 'pred_score' not in members[0][0]:
        raise ValueError(
            f'{caller}: the head predicts no scores, so there is nothing to average. It takes a head with '
            'classes, such as LinearHead or EvidentialHead.'
        )
    given = {
        name: _stack(members, name)
        for name in ('pred_score', 'thresholds', 'aleatoric', 'vacuity')
        if samples and name in members[0][0]
    }
    scores = given['pred_score']
    mean = scores.mean(0)
    thresholds = given['thresholds'].mean(0) if 'thresholds' in given else None
    if thresholds is None and (known := label_thresholds(head, scores.shape[2])):
        thresholds = mean.new_tensor(known).expand_as(mean)
    several = thresholds is not None or is_multi_label(head)
    fields = mixture_fields(scores, several, given.get('aleatoric'), given.get('vacuity'))
    best = getattr(main_head(head), 'topk', None) if several and thresholds is None else None
    labels = predicted_labels(mean, thresholds) if best is None else list(mean.topk(best).indices)
    for row, (sample, score, label) in enumerate(zip(samples, mean, labels, strict=True)):
        sample.set_pred_score(score).set_pred_label(label)
        if thresholds is not None:
            sample.set_field(thresholds[row], 'thresholds', dtype=Tensor)
        for name, values in fields.items():
            sample.set_field(values[row], name, dtype=Tensor)
    return samples


def mixture_fields(
    scores: Tensor, multi_label: bool, aleatoric: Optional[Tensor], vacuity: Optional[Tensor]
) -> dict[str, Tensor]:
    """Return the uncertainties, ``(N,)`` each, of an average of T members.

    Args:
        scores (Tensor): ``(T, N, C)``.
        multi_label (bool): Whether each class is there or not, for itself.
        aleatoric (Tensor, optional): ``(T, N)``, of members that have it.
        vacuity (Tensor, optional): The same.
    """
    if multi_label:
        each = mixture_uncertainty(torch.stack([scores, 1 - scores], -1).flatten(1, 2))
        fields = {name: values.view(scores.shape[1:]).sum(1) for name, values in each._asdict().items()}
    else:
        fields = mixture_uncertainty(scores, aleatoric)._asdict()
    if vacuity is not None:
        fields['vacuity'] = vacuity.mean(0)
    return fields


def _stack(members: Sequence[Sequence[DataSample]], field: str) -> Tensor:
    return torch.stack([torch.stack([sample.get(field) for sample in member]) for member in members])


answer_old_names(globals())
