"""Compare the answers of an artifact with those of its checkpoint."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np

from hybridcls.checks import counted

from ..answer import Answer
from ..inferencer import HybridInferencer
from .shipped.runtime import Model, calibrated, read_sidecar

__all__ = ['Agreement', 'agreement', 'output_agreement']

TOLERANCE = 1e-4


@dataclass
class Agreement:
    """The differences between the answers of an artifact and those of its checkpoint.

    Args:
        images (int): How many were answered by both.
        difference (float): The largest difference of a probability, an uncertainty or, without classes, a number of an
            embedding.
        near (int): Images with a score within the tolerance of a threshold, or of another class's where the largest
            decides: there rounding may decide.
        differing (int): Images with another decision: class, 'unknown', or set of classes.
        unexplained (tuple[str, ...]): Of these, the paths of those that are not near a threshold.
    """

    images: int = 0
    difference: float = 0.0
    near: int = 0
    differing: int = 0
    unexplained: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f'{counted(self.images, "image")}: answers differ by at most {self.difference:.1g}; {self.differing} '
            f'decisions differ, {counted(self.near, "image")} within {TOLERANCE:g} of a threshold'
        )


def agreement(model: HybridInferencer, folder: Union[str, Path], images: Any) -> Agreement:
    """Compare the answers of a loaded checkpoint with those of ``runtime.py`` for its artifact.

    Args:
        model (HybridInferencer): With the calibration that was exported.
        folder (str | Path): The artifact.
        images: Paths, a folder, a pattern or a table of images, as for a call of the model. What the model cannot read
            is left out.
    """
    exported = Model(folder)
    expected = [answer for answer in model(images, top_k=2, on_unreadable='skip') if answer.path is not None]
    found = Agreement()
    paths = [str(answer.path) for answer in expected]
    for answer, got in zip(expected, exported.answers(paths, model.batch_size, top_k=2), strict=True):
        found.images += 1
        found.difference = max([found.difference, *_differences(answer, got)])
        near = answer.scores is not None and _is_near(answer.scores.tolist(), exported.sidecar)
        found.near += near
        if _decision(answer) != (got.get('class'), got.get('answered'), got.get('prediction_set')):
            found.differing += 1
            found.unexplained += () if near else (str(answer.path),)
    return found


class _Decisions(Model):
    """The sidecar of an artifact, used to make decisions from given outputs without opening the graph."""

    enrolled: Any = None  # classes that are added later

    def __init__(self, folder: Union[str, Path]) -> None:
        self.sidecar = read_sidecar(folder, check_files=False)
        self.classes = self.sidecar['classes']


def output_agreement(
    folder: Union[str, Path], expected: Sequence[Mapping[str, np.ndarray]], got: Sequence[Mapping[str, np.ndarray]]
) -> Agreement:
    """Compare the decisions of ``runtime.py`` from the model's outputs with those from the graph's outputs.

    Args:
        folder (str | Path): The artifact.
        expected (Sequence[Mapping]): The outputs of the model in PyTorch for some batches, by name.
        got (Sequence[Mapping]): Those of the graph.
    """
    exported = _Decisions(folder)
    calibration = exported.sidecar['calibration']
    found = Agreement()
    for outputs, others in zip(expected, got, strict=True):
        answers, other_answers = (exported.decide(dict(one), top_k=2) for one in (outputs, others))
        scores = outputs.get('probabilities')
        if scores is not None and calibration:
            scores = calibrated(scores, calibration['scaling'])
        for row, (answer, other) in enumerate(zip(answers, other_answers, strict=True)):
            found.images += 1
            if scores is None:
                continue
            found.difference = max(found.difference, abs(answer['probability'] - other['probability']))
            near = _is_near(scores[row].tolist(), exported.sidecar)
            found.near += near
            if any(answer.get(key) != other.get(key) for key in ('class', 'answered', 'prediction_set')):
                found.differing += 1
                found.unexplained += () if near else (f'image {found.images}',)
    return found


def _differences(answer: Answer, got: dict[str, Any]) -> Iterator[float]:
    if answer.probability is not None:
        yield abs(answer.probability - got['probability'])
    elif answer.embedding is not None:
        yield max(abs(one - other) for one, other in zip(answer.embedding.tolist(), got['embedding'], strict=True))
    for name, value in answer.uncertainties.items():
        yield abs(value - got[name])
    for name, of_head in answer.heads.items():
        yield from _differences(of_head, got['heads'][name]) if of_head.probability is not None else ()


def _decision(answer: Answer) -> tuple[Any, Any, Any]:
    chosen = None if answer.prediction_set is None else list(answer.prediction_set)
    return answer.class_name, answer.answered, chosen


def _is_near(scores: Sequence[float], sidecar: dict[str, Any]) -> bool:
    """Return whether these calibrated scores are so close to a threshold that rounding may decide."""
    if sidecar['multi_label']:
        return any(
            abs(one - limit) <= TOLERANCE for one, limit in zip(scores, sidecar['class_thresholds'], strict=True)
        )
    best = sorted(scores)[-2:]
    calibration = sidecar['calibration'] or {}
    gaps = [best[1] - best[0]] if len(best) == 2 else []
    if calibration.get('risk'):
        gaps.append(max(scores) - calibration['risk']['threshold'])
    if calibration.get('sets'):
        gaps += [one - calibration['sets']['threshold'] for one in scores]
    return any(abs(gap) <= TOLERANCE for gap in gaps)
