"""Static int8 quantization of an exported ONNX file; measurements decide which layers stay in float32."""

import inspect
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any, Optional, Union

import numpy as np

from hybridcls.checks import check_number, verb_of

__all__ = ['Quantization', 'quantize']

_BATCH = 8
_LEAST = 4 * _BATCH
_MOST_CHOOSE = 64  # images that a candidate is compared on
_MOST_FLOAT = 0.5  # share of the products that may stay in float: with more there is little left to gain
# Sums, softmax and normalization stay in float: with them in int8 the logits of a ViT were off by 34 % of their spread,
# with the products alone by 5 %, and nothing was faster. A ReLU is the end of the range of the product before it.
_PRODUCTS = ('Conv', 'ConvTranspose', 'MatMul', 'Gemm')
_RANGE_ENDS = ('Relu', 'Clip')
_METHODS: dict[str, dict[str, Any]] = dict(
    minmax=dict(calibrate_method='MinMax'),
    percentile=dict(calibrate_method='Percentile', CalibPercentile=99.99),
    entropy=dict(calibrate_method='Entropy'),
)


@dataclass
class Quantization:
    """The settings and the result of a quantization.

    Args:
        method (str): What the ranges of activations are: ``'minmax'``, ``'percentile'`` (99.99) or ``'entropy'``.
        weight_bits (int): 7: the answers are the same on every CPU; or 8: on x86 CPUs without VNNI the sum of two
            products may not fit into 16 bits, and is cut off.
        moved (float): By how much the probability of an image that moves most moves, mean over the images that chose;
            of a model of embeddings alone, 1 - cosine similarity.
        quantized (int): How many products are computed in int8.
        head (list[str]): Products of the head, which stay in float: a margin head multiplies their error by its scale.
        kept_float (list[str]): Products that stay in float since int8 changed the answers too much, the worst first.
        tried (dict[str, float]): ``moved`` of each candidate, in order.
        notes (list[str]): Sentences about what was not tried for lack of time.
    """

    method: str
    moved: float
    quantized: int
    head: list[str]
    kept_float: list[str] = field(default_factory=list)
    tried: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    weight_bits: int = 7

    def __str__(self) -> str:
        """Summarize the quantization in a line."""
        head = f'{len(self.head)} of the head in float32'
        worst = f', {len(self.kept_float)} more in float32 ({", ".join(self.kept_float)})' if self.kept_float else ''
        return (
            f'int8: {self.quantized} products, ranges by {self.method}, weights of {self.weight_bits} bits a channel; '
            f'{head}{worst}'
        )


def quantize(
    onnx_path: Union[str, os.PathLike],
    out_path: Union[str, os.PathLike],
    images: np.ndarray,
    target: float = 0.03,
    seconds: float = 180.0,
    tell: Callable[[str], None] = lambda sentence: None,
) -> Quantization:
    """Quantize a model's convolutions and linear layers to int8, with ``onnxruntime.quantization``.

    Candidates are compared with the float32 outputs, in this order, until one moves the probabilities by no more than
    ``target``; the nearest is taken. No labels are looked at.

    1. Weights of 7 bits, with three ways of finding the ranges of activations, of which the best one stays.
    2. Weights of 8 bits.
    3. Each product is quantized alone, and the worst 1, 2, 4, 8 ... stay in float32, half of them at most.

    Args:
        onnx_path: A float32 model, input ``images``, uint8 (N, h, w, 3), outputs by name, ``embedding`` among them.
        out_path: Where the QDQ model is written.
        images (np.ndarray): uint8 (N, h, w, 3), in random order: the first three quarters set ranges, the others
            (64 at most) choose.
        target (float): By how much probabilities may move, in (0, 1]. Defaults to 0.03.
        seconds (float): How long candidates are tried; the first is always finished. Defaults to 180.
        tell (Callable): Takes a sentence about each candidate.

    Raises:
        ValueError: If there are too few images, they are of another size, or the model has nothing to quantize.
    """
    import onnx

    check_number('quantize', 'target', target, 0, 1, low_open=True)
    check_number('quantize', 'seconds', seconds, 0)
    began = time.monotonic()
    if len(images) < _LEAST:
        raise ValueError(f'quantize: expected at least {_LEAST} images, got {len(images)}.')
    if os.path.exists(f'{os.fspath(onnx_path)}.data'):
        raise ValueError('quantize: expected a model of less than 2 GB, got one with its weights in a file of its own.')
    split = max(_LEAST - _BATCH, len(images) * 3 // 4) // _BATCH * _BATCH
    ranges, chooses = images[:split], images[split : split + _MOST_CHOOSE]
    with tempfile.TemporaryDirectory() as folder:
        prepared = _prepared(onnx_path, folder)
        model = onnx.load(prepared)
        head, products = _products(model)
        if not products:
            raise ValueError('quantize: expected a model with convolutions or linear layers, got one without.')
        expected = _run(onnx_path, chooses)
        trial = _Trial(prepared, folder, ranges, chooses, expected, head)
        found = Quantization('', np.inf, len(products), head)
        end = began + seconds
        for method in _METHODS:
            if found.tried and time.monotonic() > end:
                found.notes.append(f'Ranges by {method} were not tried: the {seconds:g} seconds are over.')
            else:
                trial.compare(found, tell, method, 7)
        if found.moved > target:
            trial.compare(found, tell, found.method, 8)
        if found.moved > target:
            _keep_worst_float(found, trial, products, target, end, tell)
        trial.write(found.method, found.weight_bits, found.kept_float, os.fspath(out_path))
    found.quantized -= len(found.kept_float)
    if found.weight_bits == 8:
        found.notes.append(
            'Weights of 8 bits: on x86 CPUs without VNNI sums may be cut off, and the answers are others. Verify the '
            'artifact there.'
        )
    return found


def _keep_worst_float(
    found: Quantization,
    trial: '_Trial',
    products: Sequence[str],
    target: float,
    end: float,
    tell: Callable[[str], None],
) -> None:
    """Keep those layers in float32 whose quantization costs most."""
    method, bits = found.method, found.weight_bits
    alone: dict[str, float] = {}
    for name in products:
        if time.monotonic() > end:
            were = verb_of(len(alone), 'was', 'were')
            found.notes.append(f'{len(alone)} of {len(products)} products {were} tried alone: the time is over.')
            break
        alone[name] = trial.moved(method, bits, [other for other in products if other != name])
    worst = sorted(alone, key=lambda name: -alone[name])
    count = 1
    while count <= min(len(worst), int(_MOST_FLOAT * len(products))) and found.moved > target:
        trial.compare(found, tell, method, bits, worst[:count])
        count *= 2


class _Trial:
    """Quantization candidates of one model, which share the value ranges of each calibration method."""

    def __init__(
        self,
        prepared: str,
        folder: str,
        ranges: np.ndarray,
        chooses: np.ndarray,
        expected: Mapping[str, np.ndarray],
        head: Sequence[str],
    ) -> None:
        self._prepared, self._folder, self._head = prepared, folder, list(head)
        self._ranges, self._chooses, self._expected = ranges, chooses, expected

    def compare(
        self, found: Quantization, tell: Callable[[str], None], method: str, bits: int, kept_float: Sequence[str] = ()
    ) -> None:
        """Evaluate a candidate, and keep it if it is the best so far."""
        moved = self.moved(method, bits, kept_float)
        name = f'ranges by {method}, weights of {bits} bits' + (f', {len(kept_float)} in float32' if kept_float else '')
        found.tried[name] = moved
        tell(f'int8, {name}: off by {100 * moved:.2f} points')
        if moved < found.moved:
            found.method, found.weight_bits, found.kept_float, found.moved = method, bits, list(kept_float), moved

    def moved(self, method: str, bits: int, kept_float: Sequence[str]) -> float:
        path = os.path.join(self._folder, 'candidate.onnx')
        self.write(method, bits, kept_float, path)
        return _moved(self._expected, _run(path, self._chooses))

    def write(self, method: str, bits: int, kept_float: Sequence[str], path: str) -> None:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        options = dict(_METHODS[method])
        kind = getattr(CalibrationMethod, options.pop('calibrate_method'))
        more: dict[str, Any] = {}
        if 'calibration_cache_path' in inspect.signature(quantize_static).parameters:  # not in older ones
            more['calibration_cache_path'] = os.path.join(self._folder, f'{method}.json')
        with open(os.devnull, 'w') as nowhere, redirect_stdout(nowhere):  # it prints a line for each batch
            quantize_static(
                self._prepared,
                path,
                _Batches(self._ranges),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=[*_PRODUCTS, *_RANGE_ENDS],
                nodes_to_exclude=[*self._head, *kept_float],
                per_channel=True,
                reduce_range=bits == 7,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=kind,
                extra_options=dict(
                    MatMulConstBOnly=True,  # the products of attention have no weights
                    OpTypesToExcludeOutputQuantization=['MatMul', 'Gemm'],  # their kernels write float32 as fast
                    CalibTensorRangeSymmetric=False,
                    CalibStridedMinMax=1,  # the activations of one batch are held at once, not those of all
                    **options,
                ),
                **more,
            )


class _Batches:
    """A ``CalibrationDataReader`` over an array; not a subclass, since importing that class imports onnxruntime."""

    def __init__(self, images: np.ndarray) -> None:
        self._batches = [images[begin : begin + _BATCH] for begin in range(0, len(images), _BATCH)]
        self._left = iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = iter(self._batches[start_index:end_index])

    def get_next(self) -> Optional[dict[str, np.ndarray]]:
        batch = next(self._left, None)
        return None if batch is None else dict(images=batch)


def _prepared(onnx_path: Union[str, os.PathLike], folder: str) -> str:
    """Fold constants, infer shapes and name each node, as the quantization requires."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = os.path.join(folder, 'prepared.onnx')
    quant_pre_process(os.fspath(onnx_path), path, skip_symbolic_shape=True)
    model = onnx.load(path)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f'{node.op_type}_{number}'
    onnx.save(model, path)
    return path


def _products(model: Any) -> tuple[list[str], list[str]]:
    """Return the names of all nodes of the head, and of the layers with weights before it.

    The head is what the embedding does not depend on.
    """
    made_by = {output: node for node in model.graph.node for output in node.output}
    outputs = {output.name for output in model.graph.output}
    body: set[str] = set()
    open_ends = ['embedding' if 'embedding' in outputs else next(iter(outputs))]
    while open_ends:
        node = made_by.get(open_ends.pop())
        if node is not None and node.name not in body:
            body.add(node.name)
            open_ends.extend(node.input)
    weights = {tensor.name for tensor in model.graph.initializer}
    head = [node.name for node in model.graph.node if node.name not in body and node.op_type in _PRODUCTS]
    products = [
        node.name
        for node in model.graph.node
        if node.name in body and node.op_type in _PRODUCTS and weights.intersection(node.input)
    ]
    return head, products


def _run(path: Union[str, os.PathLike], images: np.ndarray) -> dict[str, np.ndarray]:
    """Return the outputs of a model for images, by name."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.log_severity_level = 3
    session = InferenceSession(os.fspath(path), options, providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    parts = [session.run(names, dict(images=images[at : at + _BATCH])) for at in range(0, len(images), _BATCH)]
    return {name: np.concatenate(rows) for name, rows in zip(names, zip(*parts, strict=True), strict=True)}


def _moved(expected: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> float:
    """Return the distance of a candidate's outputs from float32: see ``Quantization.moved``."""
    if 'probabilities' in expected:
        one, other = (of['probabilities'].astype(np.float64) for of in (expected, got))
        moved = np.abs(one - other).max(1)
    else:
        one, other = (of['embedding'].astype(np.float64) for of in (expected, got))
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        moved = 1 - (one * other).sum(1) / np.maximum(lengths, np.finfo(np.float64).tiny)
    return float(np.nan_to_num(moved, nan=1.0).mean())
