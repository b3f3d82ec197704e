"""The formats that a graph is written in, and how each is run."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hybridcls.checks import check_installed

from .graph import ImageGraph

__all__ = ['FORMATS', 'OPSET', 'Run', 'check_format', 'open_model', 'write_model']

FORMATS = {'onnx': 'model.onnx', 'torch_export': 'model.pt2', 'openvino': 'model.xml'}
"""The main file of each format."""
OPSET = 20
_LARGEST_FILE = 2**31 - 2**24  # a protobuf ends at 2 GiB; the graph itself needs some of it

Run = Callable[[np.ndarray], dict[str, np.ndarray]]


def check_format(format: str) -> None:
    """Raise an ImportError that says what to install unless a format can be written and compared."""
    if format == 'torch_export':
        return
    for package in ('onnx', 'onnxscript', 'onnxruntime'):
        check_installed('export', package, f'--format {format}', 'export')
    if format == 'openvino':
        check_installed('export', 'openvino', '--format openvino', 'openvino')


def write_model(
    graph: ImageGraph, names: Sequence[str], images: Tensor, folder: Path, format: str, half: bool = False
) -> Path:
    """Write a graph; return its main file.

    Args:
        graph (ImageGraph): In eval mode.
        names (Sequence[str]): Of its outputs, in order.
        images (Tensor): ``(2, h, w, C)`` uint8, to trace it with.
        folder (Path): Where to.
        format (str): One of :data:`FORMATS`.
        half (bool): Whether OpenVINO's weights are float16. (A graph in float16 is that by itself.) Defaults to False.

    Raises:
        ValueError: If the graph cannot be expressed in it.
    """
    file = folder / FORMATS[format]
    kind = type(graph.model).__name__
    with _quiet():
        try:
            program = torch.export.export(graph, (images,), dynamic_shapes=({0: torch.export.Dim('N', min=1)},))
        except Exception as error:  # torch raises what it likes
            raise ValueError(f'export: torch.export cannot trace {kind}: {_first_line(error)}') from error
        if format == 'torch_export':
            torch.export.save(program, file)
            return file
        onnx = file.with_suffix('.onnx')
        try:
            _write_onnx(program, names, images, onnx)
        except Exception as error:
            raise ValueError(
                f'export: ONNX cannot express {kind}: {_first_line(error)}. Type: --format torch_export'
            ) from error
        if format == 'openvino':
            _to_openvino(onnx, file, half)
    return file


def _write_onnx(program: torch.export.ExportedProgram, names: Sequence[str], images: Tensor, file: Path) -> None:
    program = program.run_decompositions({torch.ops.aten.digamma.default: digamma})
    size = sum(value.numel() * value.element_size() for value in program.state_dict.values())
    torch.onnx.export(
        program, (images,), str(file), input_names=['images'], output_names=names, dynamic_shapes=({0: 'N'},),
        opset_version=OPSET, dynamo=True, external_data=size > _LARGEST_FILE, verbose=False,
    )  # fmt: skip


def _to_openvino(onnx: Path, file: Path, half: bool) -> None:
    import openvino

    model = openvino.convert_model(onnx)
    openvino.save_model(model, file, compress_to_fp16=half)
    for part in onnx.parent.glob(f'{onnx.name}*'):
        part.unlink()


def open_model(file: Path, format: str, names: Sequence[str]) -> Run:
    """Open a written model on the CPU; return what runs it: images ``(N, h, w, C)`` uint8 to outputs by name."""
    if format == 'torch_export':
        module = torch.export.load(file).module()

        def run(images: np.ndarray) -> dict[str, np.ndarray]:
            with torch.no_grad():
                return {name: value.numpy() for name, value in module(torch.from_numpy(images)).items()}

        return run
    if format == 'openvino':
        import openvino

        model = openvino.Core().compile_model(file, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
        return lambda images: {name: model(images)[name].copy() for name in names}
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    return lambda images: dict(zip(names, session.run(list(names), {'images': images}), strict=True))


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


@contextmanager
def _quiet() -> Iterator[None]:
    """A block in which exporters do not speak of their own inside."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(before)


def _first_line(error: Exception) -> str:
    """What an error says, without the pages that exporters write around it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip('.') if lines else type(error).__name__
