"""The predictions of a model for all images of a set, with their labels."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Optional

import numpy as np
import torch

from ..image_inputs import ImageInputs, Item
from ..inferencer import HybridInferencer
from ..stream_vectors import StreamVectors, recorded_if_two

__all__ = ['EvaluatedImages', 'evaluate_images']

UNKNOWN = -1


@dataclass
class EvaluatedImages:
    """Predictions and labels of N images, as arrays.

    Args:
        items (list[Item]): The images.
        labels (np.ndarray): Class numbers, int64 (N,); -1 where the model has no such class. With several labels an
            image 0 where they are known.
        scores (np.ndarray): Probabilities, float32 (N, C).
        embeddings (np.ndarray, optional): float32 (N, D).
        uncertainties (dict[str, np.ndarray]): By name, (N,), higher for a more uncertain answer.
        unreadable (list[str]): More images, which could not be read.
        truths (np.ndarray, optional), answers (np.ndarray, optional): With several labels an image: those that it has,
            and those that the model gives at its thresholds, bool (N, C).
        uncalibrated (np.ndarray, optional): The probabilities before a calibration, float32 (N, C).
        streams (StreamVectors, optional): Of a model of two streams, what each sees.
    """

    items: list[Item]
    labels: np.ndarray
    scores: np.ndarray
    embeddings: Optional[np.ndarray]
    uncertainties: dict[str, np.ndarray] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    truths: Optional[np.ndarray] = None
    answers: Optional[np.ndarray] = None
    uncalibrated: Optional[np.ndarray] = None
    streams: Optional[StreamVectors] = None

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def predicted(self) -> np.ndarray:
        """The predicted class, that of the largest score, int64 (N,)."""
        return self.scores.argmax(1)

    @cached_property
    def confidence(self) -> np.ndarray:
        """The largest score, float32 (N,)."""
        return self.scores.max(1)

    @property
    def known(self) -> np.ndarray:
        """Whether the class of an image is known to the model, bool (N,)."""
        return self.labels >= 0

    @property
    def wrong(self) -> np.ndarray:
        """Whether the prediction is wrong, bool (N,)."""
        if self.truths is not None and self.answers is not None:
            return (self.truths != self.answers).any(1)
        return self.predicted != self.labels

    def class_text(self, row: int, classes: Sequence[str]) -> str:
        """Return the class name of an image; for several labels all names, or ``(none)``."""
        if self.truths is None:
            return classes[int(self.labels[row])]
        return ', '.join(classes[int(one)] for one in np.flatnonzero(self.truths[row])) or '(none)'

    def part(self, kept: np.ndarray) -> 'EvaluatedImages':
        """Return the subset of a mask or of positions."""
        places = np.flatnonzero(kept) if kept.dtype == bool else kept
        return EvaluatedImages(
            [self.items[place] for place in places],
            self.labels[places],
            self.scores[places],
            None if self.embeddings is None else self.embeddings[places],
            {name: values[places] for name, values in self.uncertainties.items()},
            self.unreadable,
            None if self.truths is None else self.truths[places],
            None if self.answers is None else self.answers[places],
            None if self.uncalibrated is None else self.uncalibrated[places],
            None if self.streams is None else self.streams.part(torch.from_numpy(places)),
        )

    def samples(self) -> Iterator[dict[str, Any]]:
        """Yield the samples that metrics process."""
        scores, labels = torch.from_numpy(self.scores), torch.from_numpy(self.labels)
        values = {name: torch.from_numpy(array) for name, array in self.uncertainties.items()}
        for row in range(len(self)):
            sample = dict(pred_score=scores[row], gt_label=labels[row : row + 1])
            yield {**sample, **{name: array[row] for name, array in values.items()}}


def evaluate_images(
    model: HybridInferencer,
    items: Sequence[Item],
    batch_size: Optional[int] = None,
    workers: Optional[int] = None,
    unknown: bool = False,
    on_unreadable: str = 'skip',
    caller: str = 'report',
) -> EvaluatedImages:
    """Predict all images.

    Args:
        model (HybridInferencer): Without classes, there are embeddings alone.
        items (Sequence[Item]): Those without a label are of no class of the model.
        batch_size (int, optional), workers (int, optional): As for a call of the model.
        unknown (bool): Whether all are of classes that the model does not have, whatever their folders' names.
            Defaults to False.
        on_unreadable (str): ``'skip'`` or ``'error'``, as for a call of the model. Defaults to ``'skip'``.
        caller (str): Name that errors start with. Defaults to ``'report'``.

    Raises:
        ValueError: If no image can be read.
    """
    inputs = ImageInputs(list(items), len(items))
    with _uncalibrated(model) as before, recorded_if_two(model) as streams:
        answers = model(inputs, batch_size, workers, top_k=1, embeddings=True, on_unreadable=on_unreadable)
        found = list(answers)
    if not found:
        first = answers.unreadable[0]
        raise ValueError(
            f'{caller}: expected images that can be read, got {len(items)} that cannot, as {first.path} '
            f'({first.reason}).'
        )
    unread = {one.path for one in answers.unreadable}
    own = [item for item in items if item.path not in unread]
    scores: list[Any] = [one.scores for one in found]
    vectors: list[Any] = [one.embedding for one in found]
    images = EvaluatedImages(
        own,
        np.full(len(own), UNKNOWN),
        np.zeros((len(own), 0), np.float32) if scores[0] is None else np.stack(scores),
        None if any(vector is None for vector in vectors) else np.stack(vectors),
        {name: np.array([one.uncertainties[name] for one in found]) for name in found[0].uncertainties},
        [str(one.path) for one in answers.unreadable],
        uncalibrated=np.stack(before) if before else None,
        streams=streams[0] if streams else None,
    )
    if not unknown:
        _note_labels(images, [one.label for one in found], model)
        if model.multi_label:
            images.answers = _places([one.class_name for one in found], model.classes)
    return images


@contextmanager
def _uncalibrated(model: HybridInferencer) -> Iterator[list[Any]]:
    """Collect the probabilities before calibration in the block, if the model is calibrated."""
    kept: list[Any] = []

    def keep(module: Any, args: tuple, kwargs: Mapping[str, Any], output: Any) -> None:
        if kwargs.get('mode') == 'predict':
            kept.extend(sample.pred_score.float().cpu().numpy() for sample in output)

    if model.calibration is None:
        yield kept
        return
    handle = model.model.register_forward_hook(keep, with_kwargs=True, prepend=True)
    try:
        with model.uncompiled():
            yield kept
    finally:
        handle.remove()


def _note_labels(images: EvaluatedImages, labels: Sequence[Optional[str]], model: HybridInferencer) -> None:
    if model.multi_label:
        images.labels = np.array([UNKNOWN if label is None else 0 for label in labels], dtype=np.int64)
        images.truths = _places(labels, model.classes)
        return
    number_of = {name: number for number, name in enumerate(model.classes)}
    numbers = [UNKNOWN if label is None else number_of.get(label, UNKNOWN) for label in labels]
    images.labels = np.array(numbers, dtype=np.int64)


def _places(labels: Sequence[Optional[str]], classes: Sequence[str]) -> np.ndarray:
    """Return which classes labels such as ``a|b`` contain, bool (N, C)."""
    number_of = {name: number for number, name in enumerate(classes)}
    found = np.zeros((len(labels), len(classes)), dtype=bool)
    for row, label in enumerate(labels):
        found[row, [number_of[name] for name in (label or '').split('|') if name in number_of]] = True
    return found
