"""Test whether the norm of an embedding indicates image quality, on images that are degraded step by step."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

from hybridcls.functional.metrics import bootstrap_interval
from hybridcls.functional.metrics.rank_correlation import level_correlation

from ..inferencer import HybridInferencer
from .corrupted_images import corrupted_images
from .evaluated_images import EvaluatedImages

__all__ = ['NormReadings', 'read_norms']

KINDS = ('blur', 'noise', 'resolution', 'jpeg')
_IMAGES = 64
_CONFIDENCE = 0.95


class NormReadings(NamedTuple):
    """The norms of degraded images, and their rank correlations.

    Args:
        norms (dict[str, np.ndarray]): By kind of degradation: of each image and severity, 0 first, (N, 6).
        rows (list[dict]): ``kind``, ``score`` (``'norm'``, ``'confidence'``, or an uncertainty), and the rank
            correlation with the severity, ``value``, ``low``, ``high``; None where all are equal.
        right (list[dict]): Of norm and confidence, how often, of a right and a wrong answer, the right one has the
            larger one, in percent: ``value``, ``low``, ``high``; of all images as they are. None if all are right, or
            all wrong.
        images (int): How many were degraded.
    """

    norms: dict[str, np.ndarray]
    rows: list[dict[str, Any]]
    right: list[dict[str, Any]]
    images: int

    @property
    def spread(self) -> float:
        """The width of the middle 90 % of all norms, relative to their median."""
        low, middle, high = np.percentile(np.concatenate([one.ravel() for one in self.norms.values()]), (5, 50, 95))
        return float((high - low) / middle) if middle else 0.0


def read_norms(
    model: HybridInferencer,
    known: EvaluatedImages,
    batch_size: Optional[int] = None,
    workers: Optional[int] = None,
    kinds: Sequence[str] = KINDS,
    seed: int = 0,
) -> Optional[NormReadings]:
    """Degrade up to 64 images, drawn by the seed, and measure norm, confidence and uncertainties.

    Args:
        model (HybridInferencer): Whose answers these are.
        known (EvaluatedImages): Its images.
        batch_size (int, optional), workers (int, optional): As for a call of the model.
        kinds (Sequence[str]): Of degradation. Defaults to blur, noise, resolution and JPEG.
        seed (int): Of the draw. Defaults to 0.

    Returns:
        NormReadings: None of a model without embeddings, or whose images are not of 8 bits.
    """
    if known.embeddings is None:
        return None
    chosen = np.sort(np.random.default_rng(seed).permutation(len(known))[:_IMAGES])
    drawn = known.part(chosen)
    by_kind: dict[str, list[EvaluatedImages]] = {kind: [drawn] for kind in kinds}
    try:
        for kind, _, images in corrupted_images(model, drawn.items, kinds, batch_size, workers):
            by_kind[kind].append(images)
    except TypeError:  # not of 8 bits
        return None
    scores = ['norm', *(['confidence'] if model.classes else []), *known.uncertainties]
    rows = []
    for kind, of_kind in by_kind.items():
        for score in scores:
            found = level_correlation(torch.from_numpy(np.stack([_values(one, score) for one in of_kind], 1)))
            rows.append(dict(kind=kind, score=score, **{key: _finite(value) for key, value in found._asdict().items()}))
    norms = {kind: np.stack([_values(one, 'norm') for one in of_kind], 1) for kind, of_kind in by_kind.items()}
    return NormReadings(norms, rows, [_of_right(known, score) for score in ('norm', 'confidence')], len(drawn))


def _values(images: EvaluatedImages, score: str) -> np.ndarray:
    if score == 'norm':
        vectors: Any = images.embeddings
        return np.linalg.norm(vectors.astype(np.float64), axis=1)
    return images.confidence if score == 'confidence' else images.uncertainties[score]


def _finite(value: float) -> Optional[float]:
    return value if np.isfinite(value) else None


def _of_right(known: EvaluatedImages, score: str) -> dict[str, Any]:
    order = torch.from_numpy(_values(known, score)).double().sort()
    right = torch.from_numpy(known.predicted == known.labels)[order.indices].double()
    counts = order.values.unique_consecutive(return_counts=True)[1]
    ends, group = counts.cumsum(0), torch.arange(len(counts)).repeat_interleave(counts)

    def statistic(weights: Tensor) -> Tensor:
        """Return the AUROC of each bootstrap resample; :func:`hybridcls.functional.metrics.auroc` defines it."""
        drawn = weights[:, order.indices]
        wrong = torch.nn.functional.pad((drawn * (1 - right)).cumsum(1), (1, 0))  # below each position
        below = (wrong[:, ends - counts] + wrong[:, ends])[:, group] / 2  # ties count half
        hits = drawn * right
        return 100 * (hits * below).sum(1) / (hits.sum(1) * wrong[:, -1])

    value = statistic(torch.ones(1, len(known), dtype=torch.float64))[0]
    low, high = bootstrap_interval(statistic, len(known), confidence=_CONFIDENCE)
    found = dict(value=value, low=low, high=high)
    return dict(score=score, **{key: _finite(float(one)) for key, one in found.items()})
