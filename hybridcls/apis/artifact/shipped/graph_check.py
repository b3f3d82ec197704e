"""Compare a graph with the stored outputs of the golden images, and name the cause of each difference."""

# ruff: noqa: B905 - zip(strict=...) is not in Python 3.9, which runs this file
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple, Optional

import numpy as np

try:
    from . import runtime, score_check
    from .pixel_mistakes import STATISTICS, Finding, normalizations
except ImportError:  # beside the other files of an artifact
    import runtime  # type: ignore
    import score_check  # type: ignore
    from pixel_mistakes import STATISTICS, Finding, normalizations  # type: ignore

Json = dict[str, Any]
Array = np.ndarray
Outputs = dict[str, Array]
_TOLERANCES = {'float32': 1e-3, 'float16': 2e-2, 'int8': 0.15}
_STAGES = ('names', 'input')


class Graph(NamedTuple):
    """The graph of an artifact, from uint8 (N, h, w, C) to its outputs, and the file that it was read from."""

    run: Callable[[Array], Outputs]
    path: str
    about: Json
    tolerance: float

    def floats(self) -> Optional[Callable[[Array], Outputs]]:
        """Return the same graph for float32 pixels, to try other means and scales; None if that is not possible.

        The graph begins with a conversion of uint8 to floats, which also works for floats: only the declared type of
        the input is changed.
        """
        if self.about['format'] != 'onnx' or os.path.exists(f'{self.path}.data'):
            return None
        import onnxruntime

        with open(self.path, 'rb') as file:
            content = bytearray(file.read())
            for place in _bytes_places(file, os.path.getsize(self.path)):
                content[place] = 1  # float
        try:
            session = onnxruntime.InferenceSession(bytes(content), providers=['CPUExecutionProvider'])
        except Exception:  # onnxruntime has its own errors; the graph does something else with bytes
            return None
        names, given = list(self.about['outputs']), self.about['input']['name']
        return lambda batch: dict(zip(names, session.run(names, {given: batch})))


class OnnxFile(NamedTuple):
    """The metadata of an ONNX file.

    Args:
        opset: Version of the ONNX operators; 0 if the file has none.
        producer: Name of the program that wrote the file.
        dtype: Narrowest type of the weights: 'float32', 'float16' or 'int8'.
    """

    opset: int
    producer: str
    dtype: str


def open_artifact(folder: str, sidecar: Json, tolerance: Optional[float] = None) -> Graph:
    """Open the graph of an artifact.

    Raises:
        ValueError: If the file is not a graph.
        ImportError: If the runtime of its format is not installed.
    """
    path = os.path.join(folder, sidecar['model']['file'])
    try:
        model = runtime.Model(folder, check_files=False)
    except ImportError:
        raise
    except Exception as error:  # onnxruntime has its own errors, which have no common class
        raise ValueError(f'{path} cannot be opened: {str(error).splitlines()[0]}') from error
    return Graph(model.run, path, sidecar['model'], tolerance or _TOLERANCES[sidecar['model'].get('dtype', 'float32')])


def stored_outputs(stages: dict[str, Array], sidecar: Json) -> Outputs:
    """Return the stored outputs of the golden images by name."""
    return {name: stages[name] for name in sidecar['model']['outputs'] if name in stages}


def check_outputs(graph: Graph, stages: dict[str, Array], sidecar: Json) -> Iterator[Finding]:
    """Compare the artifact's graph with model.json and with the stored outputs."""
    about = sidecar['model']
    if about['format'] == 'onnx':
        file = read_onnx(graph.path)
        if about.get('opset') and file.opset != about['opset']:
            yield Finding(
                'opset',
                f'{about["file"]} has opset {file.opset}, model.json says {about["opset"]}: the file was converted '
                'again. Use the exported file.',
            )
    wanted = stored_outputs(stages, sidecar)
    try:
        got = graph.run(stages['input'])
    except Exception as error:  # onnxruntime has its own errors, which have no common class
        yield Finding(
            'graph',
            f'{about["file"]} fails on the golden inputs ({str(error).splitlines()[0]}): it is another graph. Use the '
            'exported file.',
        )
        return
    yield from _compare(got, wanted, stages, sidecar, graph.tolerance, about['file'])


def apart(got: Array, wanted: Array) -> float:
    """Return the largest absolute difference, relative to the largest value if that exceeds 1."""
    if got.shape != wanted.shape:
        return np.inf
    return float(np.abs(got.astype(np.float64) - wanted).max(initial=0) / max(1.0, np.abs(wanted).max(initial=0)))


def _compare(
    got: Outputs, wanted: Outputs, stages: dict[str, Array], sidecar: Json, tolerance: float, name: str
) -> Iterator[Finding]:
    """Name the cause of a difference between outputs and the stored ones."""
    missing = [one for one in wanted if one not in got]
    if missing:
        yield Finding(
            'outputs', f'{name} has no output {", ".join(missing)}. Keep the names of outputs in the conversion.'
        )
    differences = {one: apart(got[one], wanted[one]) for one in wanted if one in got}
    wrong = {one: value for one, value in differences.items() if not value <= tolerance}
    if not wrong:
        return
    worst = max(wrong, key=lambda one: wrong[one])
    how_much = f'{worst} differs by {wrong[worst]:.3g} of its largest value'
    for alternative in sorted({key.split('/')[1] for key in stages if key.startswith('mistake/')}):
        stored = {one: stages[key] for one in wanted if (key := f'mistake/{alternative}/{one}') in stages}
        if stored and all(apart(got[one], values) <= tolerance for one, values in stored.items() if one in got):
            said, advice = score_check.ALTERNATIVES.get(
                alternative, (f'the model {alternative}', 'Take the exported file')
            )
            yield Finding(alternative, f'{name} holds {said} ({how_much}). {advice}.', (), wrong[worst])
            return
    for one in ('probabilities', 'logits'):
        if one in wrong:
            named = score_check.name_scores(got[one], wanted, sidecar, tolerance, one)
            if named is not None:
                yield named._replace(message=f'{name}, output {one}: {named.message}')
                return
    adapter = (sidecar['model'].get('levers') or {}).get('lora')
    guess = 'an adapter that is not merged, or other weights' if adapter else 'other weights'
    count = _changed(got, wanted)
    yield Finding(
        'graph',
        f'{name} gives other outputs for the golden inputs: {how_much}{count}. It has {guess}, or was converted or '
        'quantized wrongly. Export again.',
        (),
        wrong[worst],
    )


def _changed(got: Outputs, wanted: Outputs) -> str:
    if 'probabilities' not in got or got['probabilities'].shape != wanted['probabilities'].shape:
        return ''
    count = int((got['probabilities'].argmax(1) != wanted['probabilities'].argmax(1)).sum())
    return f', and the class of {count} of {len(got["probabilities"])} images'


# Another graph


def check_other(
    path: str, stages: dict[str, Array], sidecar: Json, tolerance: Optional[float], notes: list[str]
) -> Iterator[Finding]:
    """Compare another ONNX file, whose input may differ, with the stored outputs."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    except Exception as error:  # onnxruntime has its own errors, which have no common class
        raise ValueError(f'{path} cannot be opened: {str(error).splitlines()[0]}') from error
    file, about = read_onnx(path), sidecar['model']
    if about.get('opset') and file.opset != about['opset']:
        yield Finding(
            'opset',
            f'{path} has opset {file.opset}, the artifact has {about["opset"]}. Convert with '
            f'opset_version={about["opset"]}, or add --allow opset if everything else is right.',
        )
    limit = tolerance or max(_TOLERANCES[file.dtype], _TOLERANCES[about.get('dtype', 'float32')])
    inputs = session.get_inputs()
    if len(inputs) != 1:
        yield Finding('input', f'{path} has {len(inputs)} inputs, the artifact has one.')
        return
    shape = [one if isinstance(one, int) else None for one in inputs[0].shape]
    height, width, channels = about['input']['shape'][1:]
    sizes = {'NHWC': [height, width, channels], 'NCHW': [channels, height, width]}
    layouts = [
        one for one, size in sizes.items()
        if len(shape) == 4 and all(has in (None, want) for has, want in zip(shape[1:], size))
    ]  # fmt: skip
    if not layouts:
        yield Finding(
            'size',
            f'{path} takes {inputs[0].shape}, the artifact takes {about["input"]["shape"]}. Export it for '
            f'{height} x {width} pixels.',
        )
        return
    wanted = stored_outputs(stages, sidecar)
    tried: list[tuple[float, str, str, str, Outputs]] = []
    failure = ''
    for layout, (order, what, values) in itertools.product(layouts, _feeds(stages['input'], inputs[0].type, sidecar)):
        batch = values if layout == 'NHWC' else np.ascontiguousarray(np.moveaxis(values, 3, 1))
        try:
            got = _run(session, inputs[0].name, batch, shape[0])
        except Exception as error:  # onnxruntime has its own errors, which have no common class
            failure = str(error).splitlines()[0]
            continue
        got = _renamed(got, wanted)
        worst = max([apart(got[one], values) for one, values in wanted.items() if one in got] or [np.inf])
        tried.append((worst, layout, order, what, got))
    if not tried:
        yield Finding('input', f'{path} fails on the golden inputs: {failure}')
        return
    best, layout, order, what, got = min(tried, key=lambda one: one[0])
    if best > limit:
        best, layout, order, what, got = tried[0]
    kind = inputs[0].type[7:-1]
    if best <= limit and order == 'BGR':
        yield Finding(
            'BGR', f'{path} takes BGR, the artifact takes RGB: reverse the channels before it, or convert it again.'
        )
    elif best <= limit and (kind, layout, what) != ('uint8', 'NHWC', '0..255'):
        notes.append(f'{path} takes {kind} {layout}, {what}: check your pipeline for that with --stage and --layout.')
    if kind == 'uint8' and layout == 'NCHW':
        yield Finding(
            'layout', f'{path} takes NCHW, the artifact takes NHWC: transpose before it, or convert it again.'
        )
    yield from _compare(got, wanted, stages, sidecar, limit, path)


def _feeds(images: Array, kind: str, sidecar: Json) -> Iterator[tuple[str, str, Array]]:
    """Yield (order of colours, meaning of the values, values) of each input that the graph may expect."""
    orders = {'RGB': images, 'BGR': images[..., ::-1]}
    if kind == 'tensor(uint8)':
        for order, values in orders.items():
            yield order, '0..255', np.ascontiguousarray(values)
        return
    dtype = np.float16 if kind == 'tensor(float16)' else np.float64 if kind == 'tensor(double)' else np.float32
    scales = [('normalized with mean and std of the sidecar', *one) for one in normalizations(sidecar)]
    scales += [('0..1', np.zeros(1), np.ones(1)), ('0..255', np.zeros(1), np.ones(1) / 255)]
    scales += [
        (f'normalized with mean and std {whose}', np.array(mean[: images.shape[3]]), np.array(std[: images.shape[3]]))
        for whose, (mean, std) in STATISTICS.items()
    ]
    for (what, mean, std), (order, values) in itertools.product(scales, orders.items()):
        yield order, what, ((values / 255 - mean) / std).astype(dtype)


def _run(session: Any, name: str, batch: Array, fixed: Optional[int]) -> Outputs:
    names = [one.name for one in session.get_outputs()]
    parts = []
    size = fixed or len(batch)
    for first in range(0, len(batch), size):
        part = batch[first : first + size]
        full = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
        parts.append([values[: len(part)] for values in session.run(names, {name: full})])
    return {name: np.concatenate([part[number] for part in parts]) for number, name in enumerate(names)}


def _renamed(got: Outputs, wanted: Outputs) -> Outputs:
    """Match outputs with other names to those of the artifact by their values."""
    found = {name: values for name, values in got.items() if name in wanted}
    rest = [values for name, values in got.items() if name not in wanted]
    for name, values in wanted.items():
        fitting = [one for one in rest if one.shape == values.shape]
        if name not in found and fitting:
            nearest = min(fitting, key=lambda one: apart(one, values))
            if apart(nearest, values) < 0.2 or (len(got) == 1 and name == 'probabilities'):
                found[name] = nearest
    return found or got


# An ONNX file is a protobuf message: fields of a number, a wire type and a value


def read_onnx(path: str) -> OnnxFile:
    """Read the metadata of an ONNX file, without the onnx package."""
    opset, producer, kinds = 0, '', set()
    with open(path, 'rb') as file:
        for field, value in _fields(file, os.path.getsize(path)):
            if field == 2 and isinstance(value, tuple):  # producer_name
                producer = _bytes(file, value).decode('utf8', 'replace')
            elif field == 8 and isinstance(value, tuple):  # opset_import
                parts = dict(_inside(file, value))
                domain = _bytes(file, parts[1]) if isinstance(parts.get(1), tuple) else b''
                if domain in (b'', b'ai.onnx'):
                    opset = parts.get(2, 0)
            elif field == 7 and isinstance(value, tuple):  # graph
                for inner, tensor in list(_inside(file, value)):
                    if inner == 5 and isinstance(tensor, tuple):  # initializer
                        kinds.add(dict(_inside(file, tensor)).get(2))
    dtype = 'int8' if kinds & {2, 3} else 'float16' if 10 in kinds else 'float32'
    return OnnxFile(opset, producer, dtype)


def _bytes_places(file: BinaryIO, end: int) -> list[int]:
    """Return the byte positions at which the file declares an input or an inner value as uint8."""
    places: list[int] = []

    def walk(stop: int, path: tuple[int, ...]) -> None:
        for field, value in _fields(file, stop):
            if field != path[0]:
                continue
            if len(path) == 1 and value == 2:
                places.append(file.tell() - 1)
            elif len(path) > 1:
                file.seek(value[0])
                walk(value[1], path[1:])

    for value_info in (11, 13):  # input, value_info; type, tensor_type, elem_type
        file.seek(0)
        walk(end, (7, value_info, 2, 1, 1))
    return places


def _inside(file: BinaryIO, span: tuple[int, int]) -> Iterator[tuple[int, Any]]:
    back = file.tell()
    file.seek(span[0])
    found = list(_fields(file, span[1]))
    file.seek(back)
    return iter(found)


def _bytes(file: BinaryIO, span: tuple[int, int]) -> bytes:
    back = file.tell()
    file.seek(span[0])
    content = file.read(span[1] - span[0])
    file.seek(back)
    return content


def _fields(file: BinaryIO, end: int) -> Iterator[tuple[int, Any]]:
    """Yield the number of each protobuf field, with its integer or, for bytes, their (begin, end) in the file."""
    while file.tell() < end:
        key = _varint(file)
        field, wire = key >> 3, key & 7
        if wire == 0:
            yield field, _varint(file)
        elif wire in (1, 5):
            file.seek(8 if wire == 1 else 4, os.SEEK_CUR)
        elif wire == 2:
            size = _varint(file)
            begin = file.tell()
            yield field, (begin, begin + size)
            file.seek(begin + size)
        else:
            raise ValueError(f'{file.name} is not an ONNX file.')


def _varint(file: BinaryIO) -> int:
    value, shift = 0, 0
    while True:
        byte = file.read(1)
        if not byte:
            raise ValueError(f'{file.name} is cut off.')
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
        shift += 7
