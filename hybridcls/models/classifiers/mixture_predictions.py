"""Several predictions of the same images, joined into one that knows how much they agree."""

from collections.abc import Sequence

import torch
from mmpretrain.structures import DataSample
from torch import Tensor

from hybridcls.functional.evidential import mixture_uncertainty
from hybridcls.old_modules import answer_old_names
from hybridcls.structures import predicted_labels

__all__ = ['aggregate_predictions']


def aggregate_predictions(
    caller: str, samples: list[DataSample], members: Sequence[Sequence[DataSample]]
) -> list[DataSample]:
    """Write the mean score of T members, and their uncertainties, onto the samples.

    Fields: ``pred_score`` (C,), the mean; ``pred_label`` (1,), its largest; in nats ``total`` = ``aleatoric`` +
    ``epistemic``, see :func:`hybridcls.functional.mixture_uncertainty`. Where the members are evidential, what they do
    not know themselves is epistemic, too, and ``vacuity`` is the mean of theirs. Other fields stay.

    Of predictions with ``thresholds`` (several labels an image) the labels are those whose mean score is at least the
    mean of the members' thresholds, and the uncertainties are sums over the classes, each of which is there or not.

    Args:
        caller (str): Name used as the error prefix.
        samples (list[DataSample]): B samples, changed in place.
        members (Sequence[Sequence[DataSample]]): T times B samples with ``pred_score``.

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
    scores = _stack(members, 'pred_score')
    evidential = samples and 'aleatoric' in members[0][0]
    thresholds = None
    if samples and 'thresholds' in members[0][0]:
        thresholds = _stack(members, 'thresholds').mean(0)
        each = mixture_uncertainty(torch.stack([scores, 1 - scores], -1).flatten(1, 2))
        fields = {name: values.view(scores.shape[1:]).sum(1) for name, values in each._asdict().items()}
    else:
        fields = mixture_uncertainty(scores, _stack(members, 'aleatoric') if evidential else None)._asdict()
    if samples and 'vacuity' in members[0][0]:
        fields['vacuity'] = _stack(members, 'vacuity').mean(0)
    mean = scores.mean(0)
    labels = predicted_labels(mean, thresholds)
    for row, (sample, score, label) in enumerate(zip(samples, mean, labels, strict=True)):
        sample.set_pred_score(score).set_pred_label(label)
        if thresholds is not None:
            sample.set_field(thresholds[row], 'thresholds', dtype=Tensor)
        for name, values in fields.items():
            sample.set_field(values[row], name, dtype=Tensor)
    return samples


def _stack(members: Sequence[Sequence[DataSample]], field: str) -> Tensor:
    return torch.stack([torch.stack([sample.get(field) for sample in member]) for member in members])


answer_old_names(globals())
