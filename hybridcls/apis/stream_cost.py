"""Measure the operations and the time of each stream per image."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch

from .counted_flops import counted_flops
from .inferencer import HybridInferencer
from .timing import interleaved_timings

__all__ = ['StreamCost', 'stream_costs']

_BATCH = 32
_ROUNDS = 5


class StreamCost(NamedTuple):
    """The cost of a part of the model per image.

    Args:
        gflops (float): By torch's counter: two for a product and a sum, of convolutions, matrix products and attention.
        milliseconds (float): Of an image in a batch of 32, on the model's device.
    """

    gflops: float
    milliseconds: float


def stream_costs(model: HybridInferencer, size: tuple[int, int], names: tuple[str, ...]) -> dict[str, StreamCost]:
    """Measure each stream by its name, and neck and head together as ``'rest'``.

    Args:
        model (HybridInferencer): Of two streams.
        size (tuple[int, int]): Height and width of the images.
        names (tuple[str, ...]): Of the streams.
    """
    network: Any = model.model

    def parts_of(count: int) -> dict[str, Callable[[], Any]]:
        images = torch.rand(count, 3, *size, device=model.device)
        with torch.no_grad(), model.precision():
            features = network.backbone(images)
        parts: dict[str, Callable[[], Any]] = {
            name: partial(network.backbone.stream_features, name, images) for name in names
        }
        parts['rest'] = lambda: network.head(network.neck(features))
        return parts

    with torch.no_grad(), model.precision():
        operations = {name: counted_flops(part) / 1e9 for name, part in parts_of(1).items()}
        timings = interleaved_timings(parts_of(_BATCH), rounds=_ROUNDS, warmup=1)
    return {name: StreamCost(operations[name], 1e3 * timings[name].seconds / _BATCH) for name in operations}
