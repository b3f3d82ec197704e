"""Measure each stream's share in the embedding, and its predictions alone, for each image."""

from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

from hybridcls.models.necks import ConcatFusion, DHAFusion, SumFusion

from ..inferencer import HybridInferencer
from ..stream_cost import StreamCost, stream_costs
from ..stream_vectors import StreamVectors, scores_without

__all__ = ['StreamReadings', 'read_streams', 'stream_shares']


class StreamReadings(NamedTuple):
    """The contributions of the two streams for N images.

    Args:
        names (tuple[str, str]): Of the streams.
        share (np.ndarray, optional): For each image in [0, 1], (N,): how far the first stream moves the embedding away
            from its mean over the images, over the sum of that of both; None for a neck that does not add them up.
        gates (dict[str, float]): By stream the mean of the gate's values; empty without a gate.
        alone (dict[str, tuple[np.ndarray, np.ndarray]]): By stream the class (N,), and its probability, that is
            predicted with the mean over the images in place of the other stream.
        costs (dict[str, StreamCost]): Of each stream and of the ``'rest'``.
    """

    names: tuple[str, ...]
    share: Optional[np.ndarray]
    gates: dict[str, float]
    alone: dict[str, tuple[np.ndarray, np.ndarray]]
    costs: dict[str, StreamCost]


@torch.no_grad()
def read_streams(model: HybridInferencer, vectors: StreamVectors, size: tuple[int, int]) -> StreamReadings:
    """Measure the streams from the features of the images.

    Args:
        model (HybridInferencer): Of two streams.
        vectors (StreamVectors): Of N images.
        size (tuple[int, int]): Height and width of the images, for the costs.
    """
    first, second = vectors.names
    everything = torch.ones(len(vectors.of[first][0]), dtype=torch.bool)
    alone = {}
    for kept, skipped in ((first, second), (second, first)):
        found = scores_without(model, vectors, skipped, vectors.mean(skipped, everything)).max(1)
        alone[kept] = found.indices.numpy(), found.values.numpy()
    share, gates = stream_shares(model, vectors)
    return StreamReadings(vectors.names, share, gates, alone, stream_costs(model, size, vectors.names))


@torch.no_grad()
def stream_shares(model: HybridInferencer, vectors: StreamVectors) -> tuple[Optional[np.ndarray], dict[str, float]]:
    """Return ``share`` and ``gates`` of :class:`StreamReadings`."""
    neck: Any = model.model.neck
    joined = {name: torch.cat(features, 1) for name, features in vectors.of.items()}
    gates = {}
    if isinstance(neck, DHAFusion):
        both = torch.cat(list(joined.values()), 1)
        values = torch.cat([neck.gate(rows.to(model.device)).cpu() for rows in both.split(1024)])
        for (name, own), opened in zip(
            joined.items(), values.split([own.shape[1] for own in joined.values()], 1), strict=True
        ):
            gates[name] = float(opened.mean())
            joined[name] = own * opened
    moves = []
    begin = 0
    for place, own in enumerate(joined.values()):
        weight = _weight(neck, place, begin, own.shape[1])
        if weight is None:
            return None, gates
        moves.append(((own - own.mean(0)) @ weight.T.cpu().float()).norm(dim=1))
        begin += own.shape[1]
    return (moves[0] / (moves[0] + moves[1]).clamp_min(1e-12)).numpy(), gates


def _weight(neck: Any, place: int, begin: int, width: int) -> Optional[Tensor]:
    """Return the weight that maps a stream's features into the embedding, (D, C)."""
    if isinstance(neck, SumFusion):
        own: Any = neck.project[place] if len(neck.project) == 2 else None
        return None if own is None else own.weight
    if isinstance(neck, ConcatFusion) and isinstance(neck.project, torch.nn.Identity):
        return torch.eye(width)
    if isinstance(neck, (ConcatFusion, DHAFusion)):
        weight: Any = neck.project.weight
        return weight[:, begin : begin + width]
    return None
