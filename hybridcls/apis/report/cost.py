"""The cost of a model: parameters, operations, time and memory."""

import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from hybridcls.checks import counted
from hybridcls.engine.runner.device_wait import wait_for_device

from ..counted_flops import counted_flops
from ..image_inputs import Item
from ..inferencer import HybridInferencer
from ..memory import peak_memory

__all__ = ['ModelCost', 'gflops_of', 'model_cost', 'seen_size']

_ROUNDS = 5


def seen_size(model: HybridInferencer, items: Sequence[Item]) -> tuple[int, int]:
    """Return the height and width of the first image after preprocessing."""
    height, width = next(iter(model.preprocess(items[:1])))[0][0][1]['inputs'].shape[-2:]
    return int(height), int(width)


def gflops_of(model: HybridInferencer, size: tuple[int, int]) -> float:
    """Return the operations for one image of size (height, width), in 1e9, by torch's counter."""
    images = torch.rand(1, 3, *size, device=model.device)
    return counted_flops(lambda: model.model(images, mode='tensor')) / 1e9


class ModelCost(NamedTuple):
    """The cost of a model: size, operations, time and memory.

    Args:
        rows (list[tuple[str, str]]): What, and how much of it, as the page shows it.
        numbers (dict[str, Any]): The same as numbers: ``parameters`` and ``parameters_of`` each part, ``image_size``
            (height, width), ``gflops`` of an image, ``device``, ``threads`` (of a CPU), ``milliseconds`` of a batch by
            its size, medians of ``runs``, and ``activations_mib`` of a batch of 32.
    """

    rows: list[tuple[str, str]]
    numbers: dict[str, Any]


def model_cost(model: HybridInferencer, size: tuple[int, int]) -> ModelCost:
    """Measure the cost on random images of a size (height, width).

    FLOPs are those of torch's counter: two for a product and a sum, of convolutions, matrix products and attention.
    """
    network, device = model.model, model.device
    parameters = sum(one.numel() for one in network.parameters())
    streams = {
        name: sum(one.numel() for one in part.parameters())
        for name in ('cnn', 'vit', 'backbone', 'neck', 'head')
        if (part := getattr(network, name, None) or getattr(getattr(network, 'backbone', None), name, None)) is not None
        and isinstance(part, torch.nn.Module)
    }
    rows = [('parameters', f'{parameters / 1e6:.2f} million')]
    rows += [(f'parameters of the {name}', f'{count / 1e6:.2f} million') for name, count in streams.items()]

    def run(count: int) -> Any:
        with torch.no_grad():
            return network(torch.rand(count, 3, *size, device=device), mode='tensor')

    gflops = gflops_of(model, size)
    rows.append((f'GFLOPs for an image of {size[0]} x {size[1]} pixels', f'{gflops:.2f}'))
    threads = torch.get_num_threads() if device.type == 'cpu' else None  # half the answer to how fast a CPU is
    on = device.type if threads is None else f'{device.type} ({counted(threads, "thread")})'
    milliseconds = {}
    for count in (1, 32):
        run(count)
        times = []
        for _ in range(_ROUNDS):
            wait_for_device(device)
            began = time.perf_counter()
            run(count)
            wait_for_device(device)
            times.append(time.perf_counter() - began)
        milliseconds[count] = 1e3 * statistics.median(times)
        rows.append((f'milliseconds for a batch of {count} on {on}', f'{milliseconds[count]:.1f}'))
    numbers = dict(
        parameters=parameters, parameters_of=streams, image_size=list(size), gflops=gflops, device=device.type,
        threads=threads, runs=_ROUNDS, milliseconds=milliseconds,
    )  # fmt: skip
    if device.type in ('cpu', 'cuda'):  # torch tells the peak of no other
        peak = peak_memory(lambda: run(32), device)
        rows.append(('MiB for activations of a batch of 32', f'{peak / 2**20:.0f}'))
        numbers['activations_mib'] = peak / 2**20
    return ModelCost(rows, numbers)
