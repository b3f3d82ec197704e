"""File formats of an exported graph."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import torch
from torch import Tensor

from hybridcls.checks import check_installed

from .graph import ImageGraph

__all__ = ['FORMATS', 'OPSET', 'check_format', 'write_model']

FORMATS = {'onnx': 'model.onnx', 'torch_export': 'model.pt2', 'openvino': 'model.xml'}
"""The main file of each format."""
OPSET = 20
_LARGEST_FILE = 2**31 - 2**24  # a protobuf ends at 2 GiB; the graph itself needs some of it


def check_format(format: str) -> None:
    """Raise an ImportError with what to install unless a format can be written and read back here."""
    if format == 'torch_export':
        return
    for package in ('onnx', 'onnxscript', 'onnxruntime'):
        check_installed('export', package, f'--format {format}', 'export')
    if format == 'openvino':
        check_installed('export', 'openvino', '--format openvino', 'openvino')


def write_model(
    graph: ImageGraph, names: Sequence[str], images: Tensor, folder: Path, format: str, half: bool = False
) -> Path:
    """Write a graph to a file in the chosen format, and return its main file.

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
            why = _first_line(error)
            if why.startswith('Constraints violated'):
                why = 'a part of it makes the number of images a constant'
            raise ValueError(f'export: torch.export cannot trace {kind}: {why}. Choose another backbone.') from error
        if format == 'torch_export':
            for node in _nodes(program):
                node.meta.pop('stack_trace', None)  # paths of this machine
            torch.export.save(program, file)
            return file
        onnx = file.with_suffix('.onnx')
        try:
            _write_onnx(program, names, images, onnx)
        except OSError:  # a full disk
            raise
        except Exception as error:
            raise ValueError(
                f'export: ONNX cannot express {kind}: {_first_line(error)}. Type: --format torch_export'
            ) from error
        if format == 'openvino':
            _to_openvino(onnx, file, half)
    return file


def _nodes(program: torch.export.ExportedProgram) -> Iterator[Any]:
    """Yield the nodes of an exported program, those of its submodules included."""
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            yield from module.graph.nodes


def _write_onnx(program: torch.export.ExportedProgram, names: Sequence[str], images: Tensor, file: Path) -> None:
    for node in _nodes(program):
        # A view of what fused attention gives is none any more once the attention is taken apart: other strides.
        if node.target is torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default
    aten = torch.ops.aten
    ours = {
        aten.digamma.default: digamma,
        aten.scaled_dot_product_attention.default: plain_attention,
        aten.sort.stable: stable_sort,
        aten.argsort.stable: lambda values, **order: stable_sort(values, **order)[1],
    }
    if any(node.target in ours for node in _nodes(program)):  # it traces all again, a fifth of an export
        program = program.run_decompositions(ours)
    size = sum(value.numel() * value.element_size() for value in program.state_dict.values())
    written: Any = torch.onnx.export(
        program, (images,), input_names=['images'], output_names=names, dynamic_shapes=({0: 'N'},),
        opset_version=OPSET, dynamo=True, verbose=False,
    )  # fmt: skip
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    ClearMetadataAndDocStringPass()(written.model)  # stack traces: a quarter of a small file, and paths of this machine
    written.save(file, external_data=size > _LARGEST_FILE)


def _to_openvino(onnx: Path, file: Path, half: bool) -> None:
    import openvino

    model = openvino.convert_model(onnx)
    openvino.save_model(model, file, compress_to_fp16=half)
    for part in onnx.parent.glob(f'{onnx.name}*'):
        part.unlink()


def plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Optional[Tensor] = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: Optional[float] = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Compute ``scaled_dot_product_attention`` in eval mode by matrix products and a softmax.

    Raises:
        ValueError: If it is causal or has groups of queries, which no image model here has.
    """
    if is_causal or enable_gqa:
        raise ValueError('causal and grouped attention are not exported')
    factor = (query.shape[-1] ** -0.5 if scale is None else scale) ** 0.5  # on both: products in float16 stay small
    scores = (query * factor) @ (key * factor).transpose(-2, -1)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return scores.softmax(-1) @ value


def stable_sort(
    values: Tensor, *, stable: Optional[bool] = None, dim: int = -1, descending: bool = False
) -> tuple[Tensor, Tensor]:
    """Compute ``torch.sort`` by topk over all entries: of equal values, ONNX's TopK takes the first one first."""
    ordered, indices = torch.topk(values, values.shape[dim], dim, largest=descending, sorted=True)
    return ordered, indices


def digamma(x: Tensor) -> Tensor:
    """Compute the digamma function of x >= 1 with ONNX operators: recurrence up to x + 8, then the asymptotic series.

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
    """Silence the logs and warnings of exporters in the block."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(before)


def _first_line(error: BaseException) -> str:
    """Return the first line of the root cause of an error, without the text that exporters wrap around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip('.') if lines else type(error).__name__
