"""Read the fields of a prediction that metrics need, with an error if one is missing."""

from collections.abc import Sequence
from typing import NamedTuple, Union

import numpy as np
import torch

from hybridcls.checks import check_choice
from hybridcls.functional.full_precision import to_float64
from hybridcls.structures import UNKNOWN_LABEL

__all__ = [
    'NO_IMAGE', 'NO_KNOWN_IMAGE', 'SCORES', 'MissingFieldError', 'check_labelled', 'check_one_class', 'check_scores',
    'class_label', 'embeddings_of', 'label_of', 'read_scores',
]  # fmt: skip

NO_IMAGE = 'No image was evaluated.'
NO_KNOWN_IMAGE = 'No image of a known class was evaluated: all labels are -1 or outside the classes of the model.'
SCORES = ('epistemic', 'aleatoric', 'total', 'vacuity', 'least_confidence', 'entropy')


_SEVERAL = 'For several labels an image use AveragePrecision or MultiLabelMetric.'


class MissingFieldError(KeyError):
    """A prediction lacks a field that a metric needs. Prints its message as it is; ``KeyError`` would quote it."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ''


class Label(NamedTuple):
    """The class of an image, and whether the model has that class."""

    value: int
    known: bool


def check_scores(caller: str, scores: Union[str, Sequence[str]]) -> tuple[str, ...]:
    """Return the scores as a tuple; raise if one is unknown."""
    chosen = (scores,) if isinstance(scores, str) else tuple(scores)
    for score in chosen:
        check_choice(caller, 'score', score, SCORES)
    if not chosen:
        raise ValueError(f'{caller}: expected at least one score of {", ".join(SCORES)}, got none.')
    return chosen


def read_scores(caller: str, sample: dict, scores: Sequence[str]) -> list[float]:
    """Return the chosen scores of a prediction, each higher for a more uncertain one.

    ``'least_confidence'`` is 1 - the largest ``pred_score``, and ``'entropy'`` the entropy of ``pred_score`` in nats:
    every classifier has both. The others are fields that the model writes.

    Raises:
        MissingFieldError: If the prediction has no such field.
    """
    return [_read_score(caller, sample, score) for score in scores]


def label_of(caller: str, sample: dict) -> Label:
    """Return the label of a sample; -1, or a number that ``pred_score`` has no entry for, is unknown.

    Raises:
        MissingFieldError: If the sample has not exactly one label, or no ``pred_score``.
    """
    check_one_class(caller, sample)
    value = class_label(caller, sample)
    return Label(value, 0 <= value < len(_pred_score(caller, sample)))


def class_label(caller: str, sample: dict) -> int:
    """Return the label of a single-label sample.

    Raises:
        MissingFieldError: If the sample has no label, or several.
    """
    check_labelled(caller, sample)
    label = torch.as_tensor(sample.get('gt_label', ()))
    if label.numel() != 1:
        raise MissingFieldError(
            f'{caller}: expected one gt_label for {_name_of(sample)}, got {label.numel()}. {_SEVERAL}'
        )
    return int(label)


def check_one_class(caller: str, sample: dict) -> None:
    """Raise a MissingFieldError for predictions, or labels, of several classes an image."""
    if sample.get('thresholds') is not None:
        raise MissingFieldError(
            f'{caller}: expected predictions of one class an image, got those of several for {_name_of(sample)}. '
            f'{_SEVERAL}'
        )
    if sample.get('gt_label') is not None:
        class_label(caller, sample)


def check_labelled(caller: str, sample: dict) -> None:
    """Raise a MissingFieldError if a sample has no label of any kind (``gt_label`` or ``gt_score``)."""
    if sample.get('gt_label') is None and sample.get('gt_score') is None:
        raise MissingFieldError(
            f'{caller}: expected a gt_label for {_name_of(sample)}, got {_fields_of(sample)}. Without labels there is '
            "no score: write its predictions with tools/test.py --out FILE --cfg-options 'test_evaluator=[]'. "
            f'(Images of unknown categories have the label {UNKNOWN_LABEL}, which the transform MarkUnknown sets.)'
        )


def embeddings_of(caller: str, samples: Sequence[dict]) -> np.ndarray:
    """Return the ``embedding`` of each sample, float32 (B, D): rows of an array are pickled one by one.

    Raises:
        MissingFieldError: If a sample has no ``embedding``.
    """
    for sample in samples:
        if sample.get('embedding') is None:
            raise MissingFieldError(
                f'{caller}: expected an embedding for {_name_of(sample)}, got {_fields_of(sample)}. Heads of hybridcls '
                'set it; with another head, set data_sample.embedding in its predict().'
            )
    return torch.stack([sample['embedding'].detach() for sample in samples]).float().cpu().numpy()


def _read_score(caller: str, sample: dict, score: str) -> float:
    if score == 'least_confidence':
        return 1 - float(to_float64(_pred_score(caller, sample)).max())
    if score == 'entropy':
        probabilities = to_float64(_pred_score(caller, sample))
        # In the order of their size: the same probabilities in another order of classes are equally uncertain.
        return float(-torch.xlogy(probabilities, probabilities).sort().values.sum())
    if sample.get(score) is None:
        raise MissingFieldError(
            f'{caller}: expected {score!r} in the predictions, got {_fields_of(sample)}. EvidentialHead, '
            'MCDropoutClassifier and EnsembleClassifier write it (vacuity: the first); every classifier '
            "has 'least_confidence' and 'entropy'."
        )
    return float(sample[score])


def _pred_score(caller: str, sample: dict) -> torch.Tensor:
    if sample.get('pred_score') is None:
        raise MissingFieldError(
            f'{caller}: expected a pred_score in the predictions, got {_fields_of(sample)}. Use a head that sets it.'
        )
    return sample['pred_score']


def _name_of(sample: dict) -> str:
    return str(sample.get('img_path') or f'sample {sample.get("sample_idx", "?")}')


def _fields_of(sample: dict) -> str:
    return ', '.join(sorted(sample)) or 'no field'
