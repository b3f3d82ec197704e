"""Record the features of each stream while a model predicts, and predict from one stream alone."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hybridcls.models.classifiers.stream_skipping import channels_of_stream, check_skippable, fused_without
from hybridcls.models.heads.head import outputs_of

from .inferencer import HybridInferencer

__all__ = ['StreamVectors', 'recorded_if_two', 'recorded_vectors', 'scores_without']

_ROWS = 1024


class StreamVectors(NamedTuple):
    """The pooled features of both streams, as the neck receives them.

    Args:
        of (dict[str, list[Tensor]]): By stream, in the model's order: its features, float32 ``(N, C)`` on the CPU.
    """

    of: dict[str, list[Tensor]]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the streams."""
        return tuple(self.of)

    def mean(self, name: str, rows: Tensor) -> list[list[float]]:
        """Return the mean of each feature of a stream over the chosen images."""
        return [feature[rows].double().mean(0).tolist() for feature in self.of[name]]

    def part(self, rows: Tensor) -> 'StreamVectors':
        """Return the subset of the chosen images."""
        return StreamVectors({name: [feature[rows] for feature in features] for name, features in self.of.items()})


@contextmanager
def recorded_vectors(model: HybridInferencer) -> Iterator[list[StreamVectors]]:
    """Record the pooled features of both streams for all images that the model predicts in the block.

    Yields:
        list[StreamVectors]: Empty until the block has ended; then one entry, with a row for each image in order.

    Raises:
        ValueError: If the model has not two streams; see
            :func:`~hybridcls.models.classifiers.stream_skipping.check_skippable`.
    """
    network: Any = model.model
    names = check_skippable(network)
    kept: list[list[Tensor]] = []

    def keep(neck: Any, inputs: tuple) -> None:
        kept.append([vector.detach().float().cpu() for vector in neck.pool(inputs[0])])

    handle = network.neck.register_forward_pre_hook(keep)
    found: list[StreamVectors] = []
    try:
        with model.uncompiled():
            yield found
    finally:
        handle.remove()
    if not kept:
        return
    columns = iter([torch.cat(column) for column in zip(*kept, strict=True)])
    found.append(StreamVectors({name: [next(columns) for _ in channels_of_stream(network, name)] for name in names}))


def recorded_if_two(model: HybridInferencer) -> AbstractContextManager[list[StreamVectors]]:
    """Return the context of :func:`recorded_vectors` for a model of two streams, else one that records nothing."""
    try:
        check_skippable(model.model)
    except ValueError:
        return nullcontext([])
    return recorded_vectors(model)


@torch.no_grad()
def scores_without(model: HybridInferencer, vectors: StreamVectors, skipped: str, filling: list[list[float]]) -> Tensor:
    """Return probabilities, float32 ``(N, C)`` on the CPU, with constants in place of the skipped stream's features."""
    network: Any = model.model
    (first,) = [name for name in vectors.names if name != skipped]
    constants = [torch.tensor(values, dtype=torch.float32) for values in filling]
    scores = []
    with model.precision():
        for begin in range(0, len(vectors.of[first][0]), _ROWS):
            seen = [feature[begin : begin + _ROWS].to(model.device) for feature in vectors.of[first]]
            fused = fused_without(network, skipped, seen, constants)
            scores.append(outputs_of(network.head, fused)['probabilities'].float().cpu())
    return torch.cat(scores)
