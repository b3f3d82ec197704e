"""What a model says of all images of a set, and what they are."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
import torch

from ..image_inputs import ImageInputs, Item
from ..inferencer import HybridInferencer

__all__ = ['EvaluatedImages', 'evaluate_images']

UNKNOWN = -1


@dataclass
class EvaluatedImages:
    """Answers as arrays; N images.

    Args:
        items (list[Item]): The images.
        labels (np.ndarray): Class numbers, int64 (N,); -1 where the model has no such class.
        scores (np.ndarray): Probabilities, float32 (N, C).
        embeddings (np.ndarray, optional): float32 (N, D).
        uncertainties (dict[str, np.ndarray]): By name, (N,), higher for a more uncertain answer.
        unreadable (int): How many more images could not be read.
        uncalibrated (np.ndarray, optional): The probabilities before a calibration, float32 (N, C).
    """

    items: list[Item]
    labels: np.ndarray
    scores: np.ndarray
    embeddings: Optional[np.ndarray]
    uncertainties: dict[str, np.ndarray] = field(default_factory=dict)
    unreadable: int = 0
    uncalibrated: Optional[np.ndarray] = None

    def __len__(self) -> int:
        return len(self.items)

    @property
    def predicted(self) -> np.ndarray:
        """The class with the largest score, int64 (N,)."""
        return self.scores.argmax(1)

    @property
    def confidence(self) -> np.ndarray:
        """The largest score, float32 (N,)."""
        return self.scores.max(1)

    @property
    def known(self) -> np.ndarray:
        """Whether the model has the class of an image, bool (N,)."""
        return self.labels >= 0

    def part(self, kept: np.ndarray) -> 'EvaluatedImages':
        """Return the images of a mask or of positions."""
        places = np.flatnonzero(kept) if kept.dtype == bool else kept
        return EvaluatedImages(
            [self.items[place] for place in places],
            self.labels[places],
            self.scores[places],
            None if self.embeddings is None else self.embeddings[places],
            {name: values[places] for name, values in self.uncertainties.items()},
            self.unreadable,
            None if self.uncalibrated is None else self.uncalibrated[places],
        )

    def samples(self) -> Iterator[dict[str, Any]]:
        """Yield what metrics process."""
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
) -> EvaluatedImages:
    """Ask a model about all images.

    Args:
        model (HybridInferencer): With classes.
        items (Sequence[Item]): Those without a label are of no class of the model.
        batch_size (int, optional), workers (int, optional): As for a call of the model.
        unknown (bool): Whether all are of classes that the model does not have, whatever their folders' names.
            Defaults to False.

    Raises:
        ValueError: If no image can be read.
    """
    number_of = {name: number for number, name in enumerate(model.classes)}
    answers = model(
        ImageInputs(list(items), len(items)), batch_size, workers, top_k=1, embeddings=True, on_unreadable='skip'
    )
    with _uncalibrated(model) as before:
        found = list(answers)
    if not found:
        raise ValueError(f'report: expected images that can be read, got {len(items)} that cannot.')
    unread = {one.path for one in answers.unreadable}
    own = [item for item in items if item.path not in unread]
    labels = [UNKNOWN if unknown or one.label is None else number_of.get(one.label, UNKNOWN) for one in found]
    scores: list[Any] = [one.scores for one in found]
    vectors: list[Any] = [one.embedding for one in found]
    return EvaluatedImages(
        own,
        np.array(labels, dtype=np.int64),
        np.stack(scores),
        None if any(vector is None for vector in vectors) else np.stack(vectors),
        {name: np.array([one.uncertainties[name] for one in found]) for name in found[0].uncertainties},
        len(answers.unreadable),
        np.stack(before) if before else None,
    )


@contextmanager
def _uncalibrated(model: HybridInferencer) -> Iterator[list[Any]]:
    """Keep the probabilities that a calibration is given, if there is one."""
    kept: list[Any] = []

    def keep(module: Any, args: tuple, kwargs: Mapping[str, Any], output: Any) -> None:
        if kwargs.get('mode') == 'predict':
            kept.extend(sample.pred_score.float().cpu().numpy() for sample in output)

    if model.calibration is None:
        yield kept
        return
    handle = model.model.register_forward_hook(keep, with_kwargs=True, prepend=True)
    try:
        yield kept
    finally:
        handle.remove()
