"""The prediction of a trained model for one image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor

from .image_inputs import Item

__all__ = ['UNKNOWN', 'Answer', 'answers_of', 'checked_embedding']

UNKNOWN = 'unknown'
_UNCERTAINTIES = ('total', 'aleatoric', 'epistemic', 'vacuity')


@dataclass(frozen=True, repr=False, eq=False)
class Answer:
    """The prediction of a model for one image.

    Args:
        path (str, optional): The image's path as it was given; None for an image in memory.
        class_name (str, optional): The class with the largest score; None if the model has no classes (SupCon). With
            several labels an image: the classes at or above their thresholds, joined by ``|``; ``''`` is none of them.
            ``'unknown'`` if ``answered`` is False.
        probability (float, optional): The largest score, in [0, 1].
        top (tuple[tuple[str, float], ...]): The k most probable classes with their scores, the best first.
        label (str, optional): The class that the image is of, where its folder or table names one of the model's; with
            several labels an image those classes, joined by ``|``.
        uncertainties (dict[str, float]): Those that the head has, by name, higher for a more uncertain answer:
            ``total``, ``aleatoric`` and ``epistemic`` in nats, ``vacuity`` in (0, 1].
        scores (np.ndarray, optional): ``(C,)`` float32, by class number.
        embedding (np.ndarray, optional): ``(D,)`` float32, if it was asked for or there are no classes.
        heads (dict[str, Answer]): Of a MultiHead, what each head says.
        answered (bool, optional): Whether the probability is at least the threshold of ``hybridcls calibrate --risk``;
            None without one.
        prediction_set (tuple[str, ...], optional): The classes of ``hybridcls calibrate --sets``, the most probable
            first; None without it.
        streams (tuple[str, ...], optional): The streams that were computed for it; None where none is ever skipped.
    """

    path: Optional[str] = None
    class_name: Optional[str] = None
    probability: Optional[float] = None
    top: tuple[tuple[str, float], ...] = ()
    label: Optional[str] = None
    uncertainties: dict[str, float] = field(default_factory=dict)
    scores: Optional[np.ndarray] = None
    embedding: Optional[np.ndarray] = None
    heads: dict[str, 'Answer'] = field(default_factory=dict)
    answered: Optional[bool] = None
    prediction_set: Optional[tuple[str, ...]] = None
    streams: Optional[tuple[str, ...]] = None

    def __repr__(self) -> str:
        said = [f'{name} {score:.3f}' for name, score in self.top]
        said += [f'{name}={value:.3g}' for name, value in self.uncertainties.items()]
        if self.class_name is None:
            said.append('no class')
        if self.answered is False:
            said.insert(0, UNKNOWN)
        if self.embedding is not None:
            said.append(f'embedding of {len(self.embedding)}')
        return f'Answer({"" if self.path is None else f"{self.path!r}: "}{", ".join(said)})'


def checked_embedding(caller: str, answer: Answer, head_name: str) -> np.ndarray:
    """Return the embedding of an answer, (D,).

    Raises:
        ValueError: If the head gives none.
    """
    if answer.embedding is None:
        raise ValueError(f'{caller}: expected embeddings of the head, got none of {head_name}. Use a head of ours.')
    return answer.embedding


def answers_of(
    samples: Sequence[Any],
    items: Sequence[Item],
    names: Sequence[str],
    labels: Sequence[Optional[str]],
    top_k: int,
    embeddings: bool,
) -> list[Answer]:
    """Turn the predictions of a batch into answers, with one transfer from the device per field.

    Args:
        samples (Sequence[DataSample]): B predictions.
        items (Sequence[Item]): The B images.
        labels (Sequence[str | None]): Their true classes, where they are known.
        names (Sequence[str]): The class names; of a head with another number of classes, the numbers are its names.
        top_k (int): Number of classes in ``top``.
        embeddings (bool): Whether to keep the embeddings.
    """
    if not samples:
        return []
    scores: Any = _stacked(samples, 'pred_score')
    vectors = _stacked(samples, 'embedding') if embeddings or scores is None else None
    uncertainties = _uncertainties(samples)
    by_head = {
        name: answers_of([sample.heads.get(name) for sample in samples], items, names, labels, top_k, False)
        for name in (samples[0].heads.keys() if 'heads' in samples[0] else ())
    }
    best = None if scores is None else torch.from_numpy(scores).topk(min(top_k, scores.shape[1]))
    if scores is not None and scores.shape[1] != len(names):
        names = list(map(str, range(scores.shape[1])))
    chosen = [] if scores is None else ['|'.join(names[one] for one in chosen_of) for chosen_of in _labels(samples)]
    answered = _answered(samples)
    answers = []
    for row, item in enumerate(items):
        top = (
            ()
            if best is None
            else tuple((names[k], score) for k, score in zip(best[1][row].tolist(), best[0][row].tolist(), strict=True))
        )
        answers.append(
            Answer(
                path=item.path,
                class_name=None if scores is None else UNKNOWN if answered[row] is False else chosen[row],
                probability=None if scores is None else float(scores[row].max()),
                top=top,
                label=labels[row],
                uncertainties={name: values[row] for name, values in uncertainties.items()},
                scores=None if scores is None else scores[row],
                embedding=None if vectors is None else vectors[row],
                heads={name: of_head[row] for name, of_head in by_head.items()},
                answered=answered[row],
                prediction_set=_set_of(samples[row], names),
                streams=samples[row].get('streams', None),
            )
        )
    return answers


def _labels(samples: Sequence[Any]) -> list[list[int]]:
    """Return the predicted classes of each image: one, or any number of them for a multi-label head."""
    if 'thresholds' in samples[0] or len({len(sample.pred_label) for sample in samples}) > 1:  # mmpretrain's have none
        return [sample.pred_label.tolist() for sample in samples]
    return torch.stack([sample.pred_label for sample in samples]).tolist()


def _answered(samples: Sequence[Any]) -> list[Optional[bool]]:
    if 'answered' not in samples[0]:
        return [None] * len(samples)
    return torch.cat([sample.answered for sample in samples]).tolist()


def _set_of(sample: Any, names: Sequence[str]) -> Optional[tuple[str, ...]]:
    return tuple(names[one] for one in sample.prediction_set.tolist()) if 'prediction_set' in sample else None


def _stacked(samples: Sequence[Any], name: str) -> Optional[np.ndarray]:
    if name not in samples[0]:
        return None
    return torch.stack([sample.get(name) for sample in samples]).float().cpu().numpy()


def _uncertainties(samples: Sequence[Any]) -> Mapping[str, list[float]]:
    """Return all scalars that the head predicts for an image besides its scores."""
    names = [name for name, value in samples[0].items() if isinstance(value, Tensor) and value.dim() == 0]
    order = [name for name in _UNCERTAINTIES if name in names] + sorted({*names} - {*_UNCERTAINTIES})
    return {name: torch.stack([sample.get(name) for sample in samples]).float().tolist() for name in order}
