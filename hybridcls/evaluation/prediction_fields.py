"""What metrics of doubt read from a prediction."""

from collections.abc import Sequence
from typing import NamedTuple, Union

import torch

from hybridcls.checks import check_choice
from hybridcls.structures import UNKNOWN_LABEL

__all__ = ['SCORES', 'check_scores', 'label_of', 'read_scores']

SCORES = ('epistemic', 'aleatoric', 'total', 'vacuity', 'max_softmax', 'entropy')


class Label(NamedTuple):
    """The class of an image, and whether it is one of the model's."""

    value: int
    known: bool


def check_scores(who: str, scores: Union[str, Sequence[str]]) -> tuple[str, ...]:
    """Return the scores as a tuple, or raise for one that does not exist."""
    chosen = (scores,) if isinstance(scores, str) else tuple(scores)
    for score in chosen:
        check_choice(who, 'score', score, SCORES)
    if not chosen:
        raise ValueError(f'{who}: no score was chosen. There are {", ".join(SCORES)}.')
    return chosen


def read_scores(who: str, sample: dict, scores: Sequence[str]) -> list[float]:
    """Return the chosen scores of a prediction, each higher for a more doubtful one.

    ``'max_softmax'`` is 1 - the largest ``pred_score``, and ``'entropy'`` the entropy of ``pred_score`` in nats: both
    are there for every classifier. The others are fields that the model writes.

    Raises:
        KeyError: If the prediction has no such field.
    """
    return [_read_score(who, sample, score) for score in scores]


def label_of(who: str, sample: dict) -> Label:
    """Return the label of a sample; -1, or a number that ``pred_score`` has no entry for, is that of no known class.

    Raises:
        KeyError: If the sample has not exactly one label, or no ``pred_score``.
    """
    label = sample.get('gt_label')
    if label is None or torch.as_tensor(label).numel() != 1:
        raise KeyError(
            f'{who}: a sample has not exactly one gt_label: {label!r}. Images of unknown categories have '
            f'the label {UNKNOWN_LABEL}: the transform MarkUnknown sets it.'
        )
    value = int(label)
    return Label(value, 0 <= value < len(_pred_score(who, sample)))


def _read_score(who: str, sample: dict, score: str) -> float:
    if score == 'max_softmax':
        return 1 - float(_pred_score(who, sample).double().max())
    if score == 'entropy':
        probabilities = _pred_score(who, sample).double()
        return float(-torch.xlogy(probabilities, probabilities).sum())
    if sample.get(score) is None:
        raise KeyError(
            f'{who}: the predictions carry no {score!r}, only {sorted(sample)}. EvidentialHead, '
            'MCDropoutClassifier and EnsembleClassifier write it (vacuity: the first); of any other '
            "classifier there are 'max_softmax' and 'entropy'."
        )
    return float(sample[score])


def _pred_score(who: str, sample: dict) -> torch.Tensor:
    if sample.get('pred_score') is None:
        raise KeyError(
            f'{who}: the predictions carry no pred_score, only {sorted(sample)}. Is the head one that classifies?'
        )
    return sample['pred_score']
