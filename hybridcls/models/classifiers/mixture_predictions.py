"""Several predictions of the same images, joined into one that knows how much they agree."""

from collections.abc import Sequence

import torch
from mmpretrain.structures import DataSample
from torch import Tensor

from hybridcls.functional.evidential import mixture_uncertainty

__all__ = ['join_predictions']


def join_predictions(who: str, samples: list[DataSample], opinions: Sequence[Sequence[DataSample]]) -> list[DataSample]:
    """Write the mean score of T opinions, and their uncertainties, onto the samples.

    Fields: ``pred_score`` (C,), the mean; ``pred_label`` (1,), its largest; in nats ``total`` = ``aleatoric`` +
    ``epistemic``, see :func:`hybridcls.functional.mixture_uncertainty`. Where the opinions are evidential, what they do
    not know themselves is epistemic, too, and ``vacuity`` is the mean of theirs. Other fields stay.

    Args:
        who (str): Who speaks, for the error messages.
        samples (list[DataSample]): B samples, changed in place.
        opinions (Sequence[Sequence[DataSample]]): T times B samples with ``pred_score``.

    Returns:
        list[DataSample]: The samples.

    Raises:
        ValueError: If the opinions have no scores.
    """
    if samples and 'pred_score' not in opinions[0][0]:
        raise ValueError(
            f'{who}: the head predicts no scores, so there is nothing to average. It takes a head with '
            'classes, such as LinearHead or EvidentialHead.'
        )
    scores = _stack(opinions, 'pred_score')
    evidential = samples and 'aleatoric' in opinions[0][0]
    fields = mixture_uncertainty(scores, _stack(opinions, 'aleatoric') if evidential else None)._asdict()
    if samples and 'vacuity' in opinions[0][0]:
        fields['vacuity'] = _stack(opinions, 'vacuity').mean(0)
    mean = scores.mean(0)
    for row, (sample, score) in enumerate(zip(samples, mean, strict=True)):
        sample.set_pred_score(score).set_pred_label(score.argmax(keepdim=True))
        for name, values in fields.items():
            sample.set_field(values[row], name, dtype=Tensor)
    return samples


def _stack(opinions: Sequence[Sequence[DataSample]], field: str) -> Tensor:
    return torch.stack([torch.stack([sample.get(field) for sample in opinion]) for opinion in opinions])
