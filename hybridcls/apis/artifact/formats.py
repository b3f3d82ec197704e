"""The formats that a graph is written in, and how each is run."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .graph import ImageGraph

__all__ = ['FORMATS', 'Runner', 'open_model', 'write_model']

FORMATS = {'onnx': 'model.onnx', 'torch_export': 'model.pt2', 'openvino': 'model.xml'}
"""The main file of each format."""
OPSET = 20
_LARGEST_FILE = 2**31 - 2**20  # protobuf ends at 2 GiB

Runner = Callable[[np.ndarray], Mapping[str, np.ndarray]]


def write_model(graph: ImageGraph, names: list[str], images: Tensor, folder: Path, format: str) -> Path:
    """Write a graph; return its main file.

    Args:
        graph (ImageGraph): In eval mode.
        names (list[str]): Of its outputs, in order.
        images (Tensor): ``(2, h, w, C)`` uint8, to trace it with.
        folder (Path): Where to.
        format (str): One of :data:`FORMATS`.
    """
    file = folder / FORMATS[format]
    batch = torch.export.Dim('N', min=1)
    program = torch.export.export(graph, (images,), dynamic_shapes=({0: batch},))
    if format == 'torch_export':
        torch.export.save(program, file)
        return file
    program = program.run_decompositions({torch.ops.aten.digamma.default: digamma})
    size = sum(value.numel() * value.element_size() for value in program.state_dict.values())
    torch.onnx.export(
        program,
        (images,),
        str(file),
        input_names=['images'],
        output_names=names,
        opset_version=OPSET,
        dynamo=True,
        external_data=size > _LARGEST_FILE,
        verbose=False,
    )
    return file


def open_model(file: Path, format: str, names: list[str]) -> Runner:
    """Open a written model; return what runs it."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    return lambda images: dict(zip(names, session.run(names, {'images': images}), strict=True))


def digamma(x: Tensor) -> Tensor:
    """The digamma function of x >= 1 from what ONNX has: recurrence up to x + 8, then the asymptotic series.

    To 1e-14 in float64 (Abramowitz and Stegun, 6.3.5 and 6.3.18).
    """
    shift = torch.zeros_like(x)
    for step in range(8):
        shift = shift + (x + step).reciprocal()
    inverse = (x + 8).reciprocal()
    square = inverse * inverse
    series = square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square * (1 / 240 - square / 132))))
    return (x + 8).log() - inverse / 2 - series - shift
