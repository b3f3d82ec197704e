"""One row of a benchmark: speed, memory and accuracy of one way to run a model."""

from dataclasses import asdict, dataclass, field
from typing import Any, Optional

import numpy as np
import torch

from hybridcls.evaluation import CalibrationMetric
from hybridcls.functional.metrics.paired_difference import images_to_show, paired_difference_interval

from ..inference_settings import InferenceSettings

__all__ = ['SAME_ANSWERS', 'Accuracy', 'Row', 'Speed', 'accuracy_of', 'verdict_on']

SAME_ANSWERS = 1e-3
"""How much a probability may move by another order of sums in float32."""
CONFIDENCE = 0.95
_FOR_TAIL = 20  # calls that a 95th percentile needs


@dataclass
class Speed:
    """Speed and memory at one batch size.

    Args:
        images_per_second (float): By the median call.
        p50_ms (float), p95_ms (float, optional): Milliseconds of a call; the latter of 20 calls and more.
        ratio (float): Of the time, over the first row's in the same round, median.
        calls (int): How many.
        first_ms (float): Of the first call, which compiles.
        peak_mib (float, optional): The largest memory of the process (of a GPU: its tensors) in a call.
        beyond_mib (float, optional): The same beyond what it had when the model was loaded.
    """

    images_per_second: float
    p50_ms: float
    p95_ms: Optional[float]
    ratio: float
    calls: int
    first_ms: float
    peak_mib: Optional[float] = None
    beyond_mib: Optional[float] = None

    @classmethod
    def of(cls, batch_size: int, seconds: list[float], ratio: float, first: float) -> 'Speed':
        """Summarize the durations of calls, in seconds."""
        milliseconds = 1e3 * np.array(seconds)
        middle = float(np.median(milliseconds))
        tail = float(np.percentile(milliseconds, 95)) if len(seconds) >= _FOR_TAIL else None
        return cls(1e3 * batch_size / middle, middle, tail, ratio, len(seconds), 1e3 * first)


@dataclass
class Accuracy:
    """Accuracy of a row on labelled images, compared with the first row on the same images.

    Args:
        images (int): With a class of the model.
        accuracy (float): Percent.
        nll (float): Mean negative logarithm of the probability of the right class, nats.
        lost_points (float): Accuracy of the first row minus this one's.
        low (float), high (float): The 95 % interval of ``lost_points``, for pairs.
        compared (int): All images that both answered.
        changed_decisions (int): Of these, another class than the first row's.
        largest_change (float): Of a probability.
        answered (int, optional): Of ``images``, with a probability of at least the calibrated threshold.
        wrong (int, optional): Of these.
    """

    images: int
    accuracy: float
    nll: float
    lost_points: float
    low: float
    high: float
    compared: int
    changed_decisions: int
    largest_change: float
    answered: Optional[int] = None
    wrong: Optional[int] = None


@dataclass
class Row:
    """One way to run the model, and its measurements.

    Args:
        name (str): As asked for.
        settings (InferenceSettings, optional): None for an artifact, which ``hybridcls predict`` does not run.
        missing (str): Why it was not measured.
        speeds (dict[int, Speed]): By batch size.
        gflops (float, optional): Of an image.
        accuracy (Accuracy, optional): Where labelled images were given.
        verdict (str): ``'within'`` the wanted loss, ``'worse'``, ``'not shown'``, or ``''``: not judged.
        why (str): The same in a sentence.
    """

    name: str
    settings: Optional[InferenceSettings]
    missing: str = ''
    speeds: dict[int, Speed] = field(default_factory=dict)
    gflops: Optional[float] = None
    accuracy: Optional[Accuracy] = None
    verdict: str = ''
    why: str = ''

    @property
    def computes_the_same(self) -> bool:
        """Whether the predictions differ from a test's only by the order of float32 sums."""
        return self.name == 'onnxruntime' if self.settings is None else self.settings.computes_the_same

    def as_dict(self) -> dict[str, Any]:
        """Return the row in JSON's types."""
        return asdict(self) | dict(speeds={str(size): asdict(speed) for size, speed in self.speeds.items()})


def accuracy_of(
    scores: np.ndarray, reference: np.ndarray, labels: np.ndarray, threshold: Optional[float] = None
) -> Optional[Accuracy]:
    """Compare probabilities (N, C) with those of the first row; label -1 is a class unknown to the model.

    Args:
        scores (np.ndarray): Of a row.
        reference (np.ndarray): Of the first one.
        labels (np.ndarray): Class numbers (N,).
        threshold (float, optional): From which probability on an image is answered. Defaults to None: always.

    Returns:
        Accuracy: None without labels.
    """
    known = labels >= 0
    images = int(known.sum())
    if not images:
        return None
    own, before = (of[known].argmax(1) == labels[known] for of in (scores, reference))
    lost, won = int((before & ~own).sum()), int((own & ~before).sum())
    low, high = paired_difference_interval(lost, won, images, CONFIDENCE)
    metric = CalibrationMetric()
    metric.process(
        None,
        [
            dict(pred_score=torch.from_numpy(score), gt_label=torch.tensor([label]))
            for score, label in zip(scores[known], labels[known], strict=True)
        ],
    )
    nll = float(metric.evaluate(images)['calibration/nll'])
    answered = None if threshold is None else scores[known].max(1).astype(np.float64) >= threshold
    changed = int((scores.argmax(1) != reference.argmax(1)).sum())
    largest = float(np.abs(scores.astype(np.float64) - reference).max())
    return Accuracy(
        images, 100 * float(own.mean()), nll, 100 * (lost - won) / images, 100 * low, 100 * high, len(labels), changed,
        largest, *(() if answered is None else (int(answered.sum()), int((answered & ~own).sum()))),
    )  # fmt: skip


def verdict_on(row: Row, max_loss: float, rule: str) -> tuple[str, str]:
    """Decide whether a row loses at most so many points of accuracy.

    By ``'interval'`` a loss is small enough if its whole 95 % interval is: it was shown. By ``'estimate'`` the
    measured difference decides. What differs from the first row by the order of sums in float32 alone needs no
    statistics: no probability may move by more than :data:`SAME_ANSWERS`.

    Returns:
        tuple[str, str]: ``Row.verdict`` and ``Row.why``.
    """
    found = row.accuracy
    if found is None:
        return '', 'no labelled images: pass --data'
    if row.computes_the_same and found.largest_change <= SAME_ANSWERS:
        return 'within', f'the same answers: no probability moves by more than {found.largest_change:.1g}'
    measured = f'{found.lost_points:+.2f} points lost [{found.low:+.2f}, {found.high:+.2f}] of {found.images} images'
    if found.lost_points > max_loss:
        return 'worse', f'{measured}: more than {max_loss:g}'
    if rule == 'estimate' or found.high <= max_loss:
        return 'within', measured
    fewest = images_to_show(max_loss / 100, CONFIDENCE) if max_loss > 0 else None
    advice = f'; without any change it takes {fewest} images' if fewest and found.images < fewest else ''
    return 'not shown', f'{measured}: {max_loss:g} is not shown{advice}'
