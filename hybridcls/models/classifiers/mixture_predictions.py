"""Several predictions of the same images, joined into one that knows how much they agree."""

from collections.abc import Sequence

import torch
from mmpretrain.structures import DataSample
from torch import Tensor

from hybridcls.functional.evidential import mixture_uncertainty
from hybridcls.old_modules import answer_old_names

__all__ = ['aggregate_predictions']


def aggregate_predictions(
    caller: str, samples: list[DataSample], members: Sequence[Sequence[DataSample]]
) -> list[DataSample]:
    """Write the mean score of T members, and their uncertainties, onto the samples.

    Fields: ``pred_score`` (C,), the mean; ``pred_label`` (1,), its largest; in nats ``total`` = ``aleatoric`` +
    ``epistemic``, see :func:`hybridcls.functional.mixture_uncertainty`. Where the members are evidential, what they do
    not know themselves is epistemic, too, and ``vacuity`` is the mean of theirs. Other fields stay.

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
    fields = mixture_uncertainty(scores, _stack(members, 'aleatoric') if evidential else None)._asdict()
    if samples and 'vacuity' in members[0][0]:
        fields['vacuity'] = _stack(members, 'vacuity').mean(0)
    mean = scores.mean(0)
    for row, (sample, score) in enumerate(zip(samples, mean, strict=True)):
        sample.set_pred_score(score).set_pred_label(score.argmax(keepdim=True))
        for name, values in fields.items():
            sample.set_field(values[row], name, dtype=Tensor)
    return samples


def _stack(members: Sequence[Sequence[DataSample]], field: str) -> Tensor:
    return torch.stack([torch.stack([sample.get(field) for sample in member]) for member in members])


answer_old_names(globals())
