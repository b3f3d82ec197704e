"""Which labels look wrong, by what a training saw of its images."""

from dataclasses import dataclass
from typing import Optional

import numpy as np
from scipy.stats import rankdata

from hybridcls.structures.sample_record import SampleRecord

__all__ = ['Suspects', 'find_suspects']


@dataclass
class Suspects:
    """All N images, ranked.

    Args:
        order (np.ndarray): Rows, the most suspect first, (N,).
        score (np.ndarray): In [0, 1], high for a suspect label, (N,).
        suggested (np.ndarray): The class that the evidence is for, int64 (N,).
        signals (dict[str, np.ndarray]): What the score is made of, each (N,), high for a suspect label.
        probability (np.ndarray, optional): That the label is wrong, (N,).
        expected (float): How many labels are wrong, as estimated.
        listed (int): How many of the first in ``order`` are suspects.
    """

    order: np.ndarray
    score: np.ndarray
    suggested: np.ndarray
    signals: dict[str, np.ndarray]
    probability: Optional[np.ndarray]
    expected: float
    listed: int


def find_suspects(
    labels: np.ndarray,
    num_classes: int,
    record: Optional[SampleRecord] = None,
    votes: Optional[np.ndarray] = None,
    scores: Optional[np.ndarray] = None,
) -> Suspects:
    """Rank the images by how much speaks against their labels.

    Args:
        labels (np.ndarray): Class numbers, (N,).
        num_classes (int): C.
        record (SampleRecord, optional): Of the training.
        votes (np.ndarray, optional): Shares of the classes among the neighbours, (N, C).
        scores (np.ndarray, optional): Probabilities of the trained model, (N, C).
    """
    rows = np.arange(len(labels))
    signals: dict[str, np.ndarray] = {}
    evidence = np.zeros((len(labels), num_classes), np.float32)
    if record is not None:
        signals['margin'] = -record.means['margin']
        signals['loss'] = record.means['loss']
        signals['contradiction'] = 1 - record.means['right']
        rival = np.exp(-(record.loss.astype(np.float32) + record.margin.astype(np.float32)))
        for other, share in zip(record.other, rival, strict=True):
            np.add.at(evidence, (rows, other.clip(0)), np.nan_to_num(share) * (other >= 0) / len(record.other))
    if votes is not None:
        signals['neighbours'] = 1 - votes[rows, labels]
        evidence += votes
    if scores is not None and record is None:
        signals['loss'] = -np.log(np.maximum(scores[rows, labels], 1e-12))
        evidence += scores
    ranks = [rankdata(np.nan_to_num(values)) / len(labels) for values in signals.values()]
    score = np.mean(ranks, 0)
    evidence[rows, labels] = -1
    wrong = np.mean([values > 0.5 for name, values in signals.items() if name in ('contradiction', 'neighbours')], 0)
    expected = float(wrong.sum())
    return Suspects(
        np.argsort(-score, kind='stable'), score, evidence.argmax(1), signals, None, expected, round(expected)
    )
