"""Predict with an exported model. It needs numpy, Pillow and onnxruntime, but neither hybridcls nor torch.

In Python::

    from runtime import Model
    model = Model('DIR')
    model.predict(['a.jpg', 'b.png'])  # a list of dicts: class, probability, top, uncertainties ...

In a shell, ``python DIR/runtime.py IMAGE ...`` prints one JSON object for each image. ``model.json`` describes the
preprocessing and the outputs.
"""

# ruff: noqa: B905 - zip(strict=...) is not in Python 3.9, which runs this file
import argparse
import hashlib
import importlib.util
import io
import json
import os
import random
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Optional, Union

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMAT, VERSION = 'hybridcls artifact', 1
Json = dict[str, Any]
Outputs = dict[str, np.ndarray]


class Model:
    """An exported model, with the preprocessing, classes, thresholds and calibration of its sidecar.

    Args:
        folder: The folder of ``model.json``. Defaults to that of this file.
        check_files: Whether to compare the SHA-256 of each file with that in the sidecar. Defaults to True.
        threads: Number of CPU threads for ONNX and OpenVINO. Defaults to None: the runtime chooses.

    Raises:
        ValueError: If a file is missing or changed, or the sidecar has another version or contradicts itself.
        ImportError: If the runtime of the format is not installed.
    """

    enrolled: Optional[Any] = None  # classes that enroll.py has added

    def __init__(
        self,
        folder: Union[str, 'os.PathLike[str]', None] = None,
        check_files: bool = True,
        threads: Optional[int] = None,
    ) -> None:
        self.folder = os.fspath(folder) if folder is not None else os.path.dirname(os.path.abspath(__file__))
        self.sidecar = read_sidecar(self.folder, check_files)
        self.classes: list[str] = self.sidecar['classes']
        self._run = open_graph(self.folder, self.sidecar['model'], threads)
        if self.sidecar.get('enrolled'):
            self.enrolled = _beside('enroll').EnrolledClasses(self.folder, self.sidecar)

    @staticmethod
    def with_digests(sidecar: Json) -> Json:
        """Return a sidecar with new digests of its own content, as :func:`read_sidecar` compares them."""
        return with_digests(sidecar)

    def read(self, image: Any) -> np.ndarray:
        """Return an image as uint8 (H, W, 3) RGB, from a path, bytes, a Pillow image, or an RGB array."""
        return read_image(image, self.sidecar['preprocessing']['decode'])

    def prepare(self, image: Any) -> np.ndarray:
        """Preprocess an image of any kind, read or not, for the graph: uint8 (h, w, 3) RGB."""
        return prepare_image(self.read(image), self.sidecar['preprocessing']['steps'])

    def run(self, batch: np.ndarray) -> Outputs:
        """Run the graph on images from :meth:`prepare`, uint8 (N, h, w, 3); return its outputs by name."""
        fixed = self.sidecar['model']['input']['shape'][0]
        if not isinstance(fixed, int):
            return self._run(batch)
        parts = []
        for part in (batch[first : first + fixed] for first in range(0, len(batch), fixed)):
            full = np.concatenate([part, np.repeat(part[-1:], fixed - len(part), axis=0)])
            parts.append({name: values[: len(part)] for name, values in self._run(full).items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def decide(self, outputs: Outputs, top_k: int = 5) -> list[Json]:
        """Return the answer for each image from the graph's outputs, by the sidecar's calibration and thresholds."""
        images = len(next(iter(outputs.values())))
        answers = _decide(images, outputs, self.sidecar, self.sidecar.get('calibration'), top_k)
        for name, head in (self.sidecar.get('heads') or {}).items():
            own = {key[len(name) + 1 :]: values for key, values in outputs.items() if key.startswith(f'{name}.')}
            calibration = self.sidecar.get('calibration') if head.get('main') else None
            for answer, said in zip(answers, _decide(images, own, head, calibration, top_k)):
                answer.setdefault('heads', {})[name] = {key: said[key] for key in said if key != 'embedding'}
        return self.enrolled.decide(answers, outputs) if self.enrolled else answers

    def predict(self, images: Any, batch_size: int = 32, top_k: int = 5) -> list[Json]:
        """Return an answer for each image of an iterable; a single path or image counts as a list of one."""
        return list(self.answers(images, batch_size, top_k))

    def alarm(self, **options: Any) -> Any:
        """Return an ``Alarm`` for images that differ from the held-out ones; see ``alarm.py``."""
        return _beside('alarm').Alarm(self.folder, **options)

    def answers(
        self,
        images: Any,
        batch_size: int = 32,
        top_k: int = 5,
        on_error: Optional[Callable] = None,
        alarm: Optional[Any] = None,
    ) -> Iterator[Json]:
        """Yield an answer for each image, batch by batch.

        Args:
            images: As for :meth:`predict`.
            batch_size: Number of images in a batch.
            top_k: Number of classes in ``top``.
            on_error: Function that is called with (image, error) for an image that cannot be read, which gets no
                answer. Defaults to None: the error is raised.
            alarm: An alarm of :meth:`alarm`, which is updated with all images that get an answer. Defaults to None.
        """
        if batch_size < 1:
            raise ValueError(f'expected a batch size of at least 1, got {batch_size}.')
        rest = iter([images] if _is_one(images) else images)
        while True:
            chunk = list(islice(rest, batch_size))
            if not chunk:
                return
            batch, names = [], []
            for image in chunk:
                try:
                    batch.append(self.prepare(image))
                    names.append(os.fspath(image) if isinstance(image, (str, os.PathLike)) else None)
                except (ValueError, OSError) as error:
                    if on_error is None:
                        raise
                    on_error(image, error)
            if not batch:
                continue
            outputs = self.run(np.stack(batch))
            if alarm is not None:
                alarm.update(outputs, np.stack(batch))
            for name, answer in zip(names, self.decide(outputs, top_k)):
                yield {**({} if name is None else {'path': name}), **answer}


def _beside(name: str) -> Any:
    """Import a file that lies beside this one."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f'{name}.py')
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def _is_one(images: Any) -> bool:
    one = (str, bytes, os.PathLike, Image.Image)
    return isinstance(images, one) or (isinstance(images, np.ndarray) and images.ndim < 4)


# The sidecar


def read_sidecar(folder: Union[str, 'os.PathLike[str]'], check_files: bool = True) -> Json:
    """Read ``model.json``; check its format and, with ``check_files``, all digests: its own and those of files."""
    path = os.path.join(folder, 'model.json')
    try:
        with open(path, encoding='utf8') as file:
            sidecar = json.load(file)
    except OSError as error:
        raise ValueError(f'{path} cannot be read ({error.strerror}). Is {folder} the folder of an artifact?') from error
    except ValueError as error:
        raise ValueError(f'{path} is damaged: {error}.') from error
    if not isinstance(sidecar, dict) or sidecar.get('format') != FORMAT:
        raise ValueError(f'{path} is not the sidecar of a {FORMAT}.')
    if sidecar.get('version') != VERSION:
        raise ValueError(
            f'{path} has version {sidecar.get("version")!r}, this runtime reads version {VERSION}. Use the runtime.py '
            'that was exported with it.'
        )
    try:
        _check_parts(path, sidecar)
        if check_files:  # last, so that a contradiction is reported as such, not as an edit
            check_digests(folder, sidecar)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{path} is damaged: a part of it is missing or of another type ({error!r}). Copy or export the artifact '
            'again.'
        ) from error
    return sidecar


def _check_parts(path: str, sidecar: Json) -> None:
    """Raise a ValueError if a part is missing, or two parts contradict each other."""
    missing = [key for key in ('model', 'preprocessing', 'classes', 'provenance', 'files') if key not in sidecar]
    if missing:
        raise ValueError(f'{path} is damaged: it has no {", ".join(missing)}.')
    count = sidecar['model'].get('outputs', {}).get('probabilities', {}).get('shape', [None])[-1]
    if isinstance(count, int) and count != len(sidecar['classes']):
        raise ValueError(f'{path} names {len(sidecar["classes"])} classes, its graph has {count}. Export again.')
    calibration = sidecar.get('calibration')
    if calibration and list(calibration['classes']) != list(sidecar['classes']):
        raise ValueError(
            f'{path}: the calibration is for the classes {_few(calibration["classes"])}, the model has '
            f'{_few(sidecar["classes"])}. Export again.'
        )
    if calibration and calibration['weights_sha256'] != sidecar['provenance']['weights_sha256']:
        raise ValueError(
            f'{path}: the calibration is for the weights of another checkpoint ({calibration["checkpoint"]}), so its '
            'thresholds guarantee nothing. Calibrate this model and export again.'
        )


def check_digests(folder: Union[str, 'os.PathLike[str]'], sidecar: Json) -> None:
    """Raise a ValueError that names each missing or changed file."""
    wrong = changed_files(folder, sidecar)
    if wrong:
        raise ValueError(f'The artifact {folder} is not as it was exported: {"; ".join(wrong)}.')


def changed_files(folder: Union[str, 'os.PathLike[str]'], sidecar: Json) -> list[str]:
    """Return a description of each missing or changed file."""
    wrong = edits_of(sidecar)
    for name, known in sidecar['files'].items():
        path = os.path.join(folder, name)
        if os.path.isabs(name) or '..' in name.replace('\\', '/').split('/'):
            wrong.append(f'{name} lies outside the artifact')
        elif not os.path.isfile(path):
            wrong.append(f'{name} is missing')
        elif (os.path.getsize(path), file_digest(path)) != (known.get('bytes'), known.get('sha256')):
            wrong.append(f'{name} has changed')
    parts = (sidecar.get(key) or {} for key in ('model', 'golden', 'drift', 'enrolled'))
    used = [part['file'] for part in parts if 'file' in part]
    return wrong + [f'{name} is not listed' for name in used if name not in sidecar['files']]


def edits_of(sidecar: Json) -> list[str]:
    """Return a description of each edited key of a sidecar; older artifacts have no digests of keys."""
    known, now = sidecar.get('digests') or {}, with_digests(sidecar)['digests']
    wrong = [f'model.json was edited in {key!r}' for key in now if known and known.get(key) != now[key]]
    return wrong + [f'model.json has lost {key!r}' for key in known if key not in now]


def with_digests(sidecar: Json) -> Json:
    """Return a sidecar with the SHA-256 of the content of each key, independent of formatting."""
    own = {key: value for key, value in sidecar.items() if key != 'digests'}
    texts = {key: json.dumps(json.loads(json.dumps(own[key]), parse_int=float), sort_keys=True) for key in own}
    return {**own, 'digests': {key: hashlib.sha256(text.encode()).hexdigest() for key, text in texts.items()}}


def read_arrays(path: str, most: int = 1 << 30) -> dict[str, np.ndarray]:
    """Read an npz file.

    Raises:
        ValueError: If it holds no arrays, or more than ``most`` bytes of them, which may be meant to fill the memory.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            packed = {name: one.file_size for name, one in arrays.zip.NameToInfo.items()}
            if sum(packed.values()) > most:
                raise ValueError(f'expected at most {most >> 20} MiB of arrays, got {sum(packed.values()) >> 20}')
            return dict(arrays)
    except (AttributeError, EOFError, MemoryError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f'{path} is damaged, or not a file of arrays: {error}') from error


def file_digest(path: str) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def _few(names: list[str]) -> str:
    return ', '.join(map(str, names[:5])) + (f' and {len(names) - 5} more' if len(names) > 5 else '')


# The graph


def open_graph(folder: str, model: Json, threads: Optional[int] = None) -> Callable[[np.ndarray], Outputs]:
    """Return a function from images, uint8 (N, h, w, 3), to the outputs by name."""
    path, names, kind = os.path.join(folder, model['file']), list(model['outputs']), model['format']
    needs = {'onnx': 'onnxruntime', 'openvino': 'openvino', 'torch_export': 'torch'}
    if kind not in needs:
        raise ValueError(f'{path}: expected the format {", ".join(needs)}, got {kind!r}. Use another runtime.py.')
    try:
        if kind == 'onnx':
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads or 0
            session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
            given = model['input']['name']
            return lambda batch: dict(zip(names, session.run(names, {given: batch})))
        if kind == 'openvino':
            import openvino

            # By default it computes in bfloat16 if the CPU can.
            hints = {'INFERENCE_PRECISION_HINT': 'f32', **({'INFERENCE_NUM_THREADS': threads} if threads else {})}
            compiled = openvino.Core().compile_model(path, 'CPU', hints)

            def run_openvino(batch: np.ndarray) -> Outputs:
                found = compiled(batch)
                return {name: np.array(found[name]) for name in names}

            return run_openvino
        import torch

        program = torch.export.load(path).module()

        def run(batch: np.ndarray) -> Outputs:
            with torch.no_grad():
                found = program(torch.from_numpy(batch))
            values = list(found.values()) if isinstance(found, dict) else list(found)
            return {name: value.numpy() for name, value in zip(names, values)}

        return run
    except ImportError as error:
        raise ImportError(
            f'{path} has the format {kind}, which needs {needs[kind]}: pip install {needs[kind]}'
        ) from error


# The decision


def _decide(images: int, outputs: Outputs, of: Json, calibration: Optional[Json], top_k: int) -> list[Json]:
    """Return the answers of one head; ``of`` holds its ``classes``, ``multi_label`` and ``class_thresholds``."""
    known = ('logits', 'probabilities', 'embedding')
    uncertainties = {name: values for name, values in outputs.items() if name not in known and '.' not in name}
    scores, classes = outputs.get('probabilities'), of['classes']
    answers: list[Json] = []
    if scores is not None and calibration:
        scores = calibrated(scores, calibration['scaling'])
    for row in range(images):
        answer: Json = {}
        if scores is not None:
            order = np.argsort(-scores[row].astype(np.float64), kind='stable')
            best = float(scores[row, order[0]])
            answer['class'], answer['probability'] = classes[order[0]], best
            if of.get('multi_label'):
                chosen = np.flatnonzero(scores[row] >= np.asarray(of['class_thresholds'], np.float32))
                answer['class'] = '|'.join(classes[one] for one in chosen)
            answer['top'] = [[classes[one], float(scores[row, one])] for one in order[:top_k]]
            if calibration and calibration.get('risk'):
                answer['answered'] = best >= calibration['risk']['threshold']
                answer['class'] = answer['class'] if answer['answered'] else 'unknown'
            if calibration and calibration.get('sets'):
                count = max(1, int((scores[row].astype(np.float64) >= calibration['sets']['threshold']).sum()))
                answer['prediction_set'] = [classes[one] for one in order[:count]]
        answer.update({name: float(values[row]) for name, values in uncertainties.items()})
        if scores is None and 'embedding' in outputs:
            answer['embedding'] = outputs['embedding'][row].tolist()
        answers.append(answer)
    return answers


def calibrated(scores: np.ndarray, scaling: Json) -> np.ndarray:
    """Calibrate the graph's probabilities, float32 (N, C); computed in float64."""
    own, kind = scores.astype(np.float64), scaling['kind']
    if kind == 'none':
        return scores
    if kind == 'isotonic':
        values = np.stack([np.interp(own[:, k], *steps) for k, steps in enumerate(scaling['functions'])], axis=1)
        total = values.sum(axis=1, keepdims=True)
        values = np.where(total > 0, values / np.where(total > 0, total, 1), own)
        return (values + scaling['own_share'] * (own - values)).astype(np.float32)
    logits = np.log(np.maximum(own, 2.0**-149))  # the smallest number above 0 of float32
    if kind == 'vector':
        logits = logits * np.asarray(scaling['weight']) + np.asarray(scaling['bias'])
    else:
        logits = logits / scaling['temperature']
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


# Reading images: three channels of 8 bits, as in the training


def read_image(image: Any, decode: Json) -> np.ndarray:
    """Return an image as uint8 (H, W, 3) RGB.

    Raises:
        ValueError: If the image cannot be read; the message names the file.
    """
    name = os.fspath(image) if isinstance(image, (str, os.PathLike)) else 'an image in memory'
    if isinstance(image, (str, os.PathLike)):
        try:
            with open(image, 'rb') as file:
                image = file.read()
        except OSError as error:
            raise ValueError(f'cannot read {name}: {error.strerror}.') from error
    try:
        if isinstance(image, (bytes, bytearray)):
            return _decoded(bytes(image), decode)
        if isinstance(image, np.ndarray):
            if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
                return image
            if image.dtype != np.uint8 or image.ndim not in (2, 3):
                raise ValueError(f'expected uint8 (H, W, 3) RGB, got {image.dtype} {image.shape}')
            image = Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
        if isinstance(image, Image.Image):
            return _flat(image, decode)
    except UnidentifiedImageError as error:
        raise ValueError(f'cannot read {name}: its bytes are not an image that Pillow can read here.') from error
    except Exception as error:  # Pillow raises SyntaxError, struct.error and others on broken files
        raise ValueError(f'cannot read {name}: {str(error) or type(error).__name__}') from error
    raise TypeError(f'expected a path, bytes, an image of Pillow or an array, got {type(image).__name__}.')


def _decoded(content: bytes, decode: Json) -> np.ndarray:
    """Decode an image file."""
    image = Image.open(io.BytesIO(content))
    if content[:2] == b'\xff\xd8' or image.mode == 'CMYK':
        pixels = _mixed(image) if image.mode == 'CMYK' and decode['cmyk'] == 'cv2' else image.convert('RGB')
        return np.asarray(_upright(pixels, image, decode))
    if image.format == 'TIFF' and image.mode in ('LAB', 'YCbCr'):
        raise ValueError(f'TIFF images of mode {image.mode} are not supported: save it as PNG')
    if decode['depth'] == 'upper' and image.format not in ('PNG', 'WEBP', 'BMP'):
        raise ValueError(f'{image.format} is not supported by a model of preprocessing version 1: save it as PNG')
    bits = _bits(image, content)
    if bits > 16:
        raise ValueError('expected 8 or 16 bits a channel, got 32, whose range is unknown: convert it')
    if bits == 16 and image.format in ('PNG', 'TIFF'):
        return _deep(content, image, decode)
    return _flat(image, decode)


def _bits(image: Image.Image, content: bytes) -> int:
    bits = 16 if image.mode.startswith('I;16') or (image.mode == 'I' and image.format == 'PPM') else 8
    bits = 32 if bits == 8 and image.mode in ('I', 'F') else bits
    if image.format == 'PNG':
        bits = max(8, content[24])
    return max([bits, *getattr(image, 'tag_v2', {}).get(258, ())])  # BitsPerSample of TIFF


def _upright(image: Image.Image, source: Image.Image, decode: Json) -> Image.Image:
    """Apply the EXIF orientation of the file to pixels."""
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(source.getexif().get(0x0112, 1) if decode['exif'] else 1)  # fmt: skip
    return image if turn is None else image.transpose(turn)


def _mixed(image: Image.Image) -> Image.Image:
    """Convert CMYK as OpenCV does: rounded up in JPEG, down in TIFF."""
    inks = np.asarray(image).astype(np.int32)
    white = 255 - inks[..., 3:]
    colors = white - (inks[..., :3] * white >> 8) if image.format == 'JPEG' else white * (255 - inks[..., :3]) // 255
    return Image.fromarray(colors.astype(np.uint8))


def _flat(image: Image.Image, decode: Json) -> np.ndarray:
    """Apply the orientation, put the image on the background, and convert it to three channels of 8 bits."""
    if decode['exif'] and getattr(image, 'format', None) is not None:
        image = ImageOps.exif_transpose(image)
    if image.mode[0] in 'IF':
        values = np.asarray(image)
        if image.mode == 'F' or values.min(initial=0) < 0 or values.max(initial=0) > 65535:
            raise ValueError(f'expected 8 or 16 bits a channel, got mode {image.mode}, whose range is unknown')
        image = Image.fromarray(to_eight_bits(values.astype(np.uint16), 16))
    if image.mode in ('LA', 'La', 'PA', 'RGBA', 'RGBa') or 'transparency' in image.info:
        image = image.convert('RGBA')
        if decode['background'] is not None:
            canvas = Image.new('RGB', image.size, tuple(decode['background']))
            canvas.paste(image, mask=image.getchannel('A'))
            image = canvas
    return np.asarray(image.convert('RGB'))


def to_eight_bits(values: np.ndarray, depth: Union[str, int]) -> np.ndarray:
    """Scale 16-bit values to 8 bits as the training did."""
    if depth == 'upper':
        return (values >> 8).astype(np.uint8)
    largest = int(values.max(initial=0))
    if depth == 'check' and 0 < largest < 2**14:
        raise ValueError(f'expected 16-bit values above {2**14 - 1}, got at most {largest}: too dark for 16 bits')
    if isinstance(depth, int) and largest >= 2**depth:
        raise ValueError(f'expected values below {2**depth}, got {largest}')
    full = 2**depth - 1 if isinstance(depth, int) else 65535 if depth == 'check' else max(1, largest)
    return np.rint(np.multiply(values, 255 / full, dtype=np.float32)).astype(np.uint8)


def _deep(content: bytes, image: Image.Image, decode: Json) -> np.ndarray:
    """Decode PNG or TIFF of 16 bits a channel; Pillow keeps only 8 of those of colour images."""
    if image.format == 'PNG':
        if image.info.get('interlace') or 'transparency' in image.info:
            raise ValueError('16-bit PNG images that are interlaced or have a transparent colour are not supported')
        values = _png_values(content)
    elif image.mode.startswith('I;16'):
        values = np.asarray(ImageOps.exif_transpose(image))[..., None].astype(np.uint16)
    else:
        raise ValueError('16-bit colour TIFF images are not supported: save it as PNG')
    colors = values.shape[2] - 1 + values.shape[2] % 2  # of 2 or 4 channels the last one is opacity
    shallow = to_eight_bits(values[..., :colors], decode['depth'])
    if colors == 1:
        shallow = np.repeat(shallow, 3, axis=2)
    if values.shape[2] > colors:
        shallow = np.dstack([shallow, to_eight_bits(values[..., colors:], 16)])
    return _flat(_upright(Image.fromarray(shallow), image, decode), decode)


def _png_values(content: bytes) -> np.ndarray:
    """Decode a PNG of 16 bits, not interlaced: uint16 (H, W, channels)."""
    chunks, at = [], 8
    while at < len(content):
        length = int.from_bytes(content[at : at + 4], 'big')
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    width, height = (int.from_bytes(chunks[0][1][at : at + 4], 'big') for at in (0, 4))
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[content[25]]
    packed = zlib.decompress(b''.join(data for name, data in chunks if name == b'IDAT'))
    rows = np.frombuffer(packed, np.uint8)[: height * (1 + width * channels * 2)].reshape(height, -1)
    given = rows[:, 1:].reshape(height, width, channels * 2).astype(np.int16)
    found = np.zeros((height + 1, width + 1, channels * 2), np.int16)  # with a border of zeros above and to the left
    # A value follows from those to the left and above, so all of a diagonal are known at once.
    for diagonal in range(height + width - 1):
        y = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        x = diagonal - y
        left, above, corner = found[y + 1, x], found[y, x + 1], found[y, x]
        far = [np.abs(left + above - corner - one) for one in (left, above, corner)]
        nearest = np.where((far[0] <= far[1]) & (far[0] <= far[2]), left, np.where(far[1] <= far[2], above, corner))
        guesses = np.stack([np.zeros_like(left), left, above, (left + above) >> 1, nearest])
        found[y + 1, x + 1] = (given[y, x] + guesses[rows[y, 0], np.arange(len(y))]) & 255
    return found[1:, 1:].astype(np.uint8).reshape(height, width, channels, 2).view('>u2')[..., 0].astype(np.uint16)


# Resizing


def prepare_image(image: np.ndarray, steps: list[Json]) -> np.ndarray:
    """Apply a sidecar's steps to an image, uint8 (H, W, 3)."""
    for step in steps:
        height, width = image.shape[:2]
        if step['op'] == 'center_crop':
            new_height, new_width = (min(size, has) for size, has in zip(step['size'], (height, width)))
            top, left = round((height - new_height) / 2), round((width - new_width) / 2)
            image = image[top : top + new_height, left : left + new_width]
        else:
            image = resize(image, *_new_size(step, height, width), step)
    return np.ascontiguousarray(image)


def _new_size(step: Json, height: int, width: int) -> tuple[int, int]:
    size = step['size']
    if step['op'] == 'resize':
        return size[0], size[1]
    edge = step['edge']
    if edge == 'cover':  # the edge that is shorter relative to the size; the other one is cropped later
        edge = 'height' if width * size[0] >= height * size[1] else 'width'
        size = size[0] if edge == 'height' else size[1]
    if edge == 'width' or (edge == 'short' and width < height) or (edge == 'long' and width > height):
        return int(size * height / width), size
    return size, int(size * width / height)


def resize(image: np.ndarray, height: int, width: int, step: Json) -> np.ndarray:
    """Resize uint8 (H, W, 3) to (height, width, 3), with the filter and the arithmetic of a library."""
    if height < 1 or width < 1:
        raise ValueError(f'an image of {image.shape[1]} x {image.shape[0]} would become {width} x {height} pixels')
    if step['library'] == 'pillow':
        code = getattr(Image.Resampling, step['filter'].upper())
        return np.asarray(Image.fromarray(image).resize((width, height), code))
    return {'nearest': _nearest, 'bilinear': _linear, 'bicubic': _cubic, 'area': _area}[step['filter']](
        image, height, width, step
    )


# OpenCV's arithmetic for 8 bits: weights of 11 bits, but for 'bicubic' in the version of Intel's IPP ('float').

Taps = tuple[np.ndarray, np.ndarray]  # for each new pixel the old ones, (new,) or (new, K), and their weights


def _starts(new: int, old: int) -> Taps:
    """Return the source pixel left of each target pixel, and the distance to it."""
    position = ((np.arange(new) + 0.5) * (1 / (new / old)) - 0.5).astype(np.float32)
    first = np.floor(position)
    return first.astype(np.int64), position - first


def _nearest(image: np.ndarray, height: int, width: int, step: Json) -> np.ndarray:
    rows, columns = (
        np.minimum(np.floor(np.arange(new) * (1 / (new / old))).astype(np.int64), old - 1)
        for new, old in ((height, image.shape[0]), (width, image.shape[1]))
    )
    return image[rows][:, columns]


def _linear(image: np.ndarray, height: int, width: int, step: Json) -> np.ndarray:
    if image.shape[:2] == (2 * height, 2 * width):
        return _area(image, height, width, step)
    return _blend(image, _starts(height, image.shape[0]), _starts(width, image.shape[1]))


def _blend(image: np.ndarray, rows: Taps, columns: Taps) -> np.ndarray:
    """Interpolate linearly between two neighbours in both directions, in integers."""
    old_height, old_width = image.shape[:2]
    (top, down), (left, across) = rows, columns
    across = np.where((left < 0) | (left >= old_width - 1), np.float32(0), across)
    near, far = (_fixed(one)[:, None] for one in (1 - across, across))
    left, right = (np.clip(left + k, 0, old_width - 1) for k in (0, 1))
    rows_of = (image[np.clip(top + k, 0, old_height - 1)] for k in (0, 1))
    upper, lower = (rows[:, left].astype(np.int32) * near + rows[:, right].astype(np.int32) * far for rows in rows_of)
    near, far = (_fixed(one)[:, None, None] for one in (1 - down, down))
    return _bytes(((near * (upper >> 4) >> 16) + (far * (lower >> 4) >> 16) + 2) >> 2)


def _fixed(weights: np.ndarray) -> np.ndarray:
    return np.rint(weights * np.float32(2048)).astype(np.int32)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _across(image: np.ndarray, columns: Taps) -> np.ndarray:
    """Return the weighted sums along the rows, added in OpenCV's order and in the dtype of the weights."""
    places, weights = columns
    parts = (image[:, places[:, k]].astype(weights.dtype) for k in range(places.shape[1]))
    return _added(part * weights[:, k, None] for k, part in enumerate(parts))


def _down(pixels: np.ndarray, rows: Taps) -> np.ndarray:
    places, weights = rows
    return _added(pixels[places[:, k]] * weights[:, k, None, None] for k in range(places.shape[1]))


def _added(parts: Iterator[np.ndarray]) -> np.ndarray:
    total = next(parts)
    for part in parts:
        total = total + part
    return total


def _cubic(image: np.ndarray, height: int, width: int, step: Json) -> np.ndarray:
    in_floats = step['arithmetic'] == 'float' and min(image.shape[:2]) >= 4  # IPP leaves smaller ones to OpenCV
    rows, columns = _cubic_taps(height, image.shape[0], in_floats), _cubic_taps(width, image.shape[1], in_floats)
    if in_floats:
        return _bytes(_down(_across(image, columns), rows))
    (places, down), columns = (rows[0], _fixed(rows[1])), (columns[0], _fixed(columns[1]))
    mixed = _across(image, columns)
    whole = (_down(mixed, (places, down)) + (1 << 21)) >> 22
    # OpenCV takes eight numbers of a row at a time, in floats and the last row first, and the rest in integers.
    fast = _down(mixed.astype(np.float32), (places[:, ::-1], down[:, ::-1].astype(np.float32) * np.float32(2.0**-22)))
    is_fast = (np.arange(width * 3) < width * 3 // 8 * 8).reshape(width, 3)
    return _bytes(np.where(is_fast, np.rint(fast), whole))


def _cubic_taps(new: int, old: int, in_floats: bool) -> Taps:
    if in_floats:
        position = (np.arange(new) + 0.5) * (old / new) - 0.5
        first = np.floor(position).astype(np.int64)
        x = position - first
    else:
        first, x = _starts(new, old)
    a, one = x.dtype.type(-0.75), x.dtype.type(1)
    weights = [
        ((a * (x + one) - 5 * a) * (x + one) + 8 * a) * (x + one) - 4 * a,
        ((a + 2) * x - (a + 3)) * x * x + one,
        ((a + 2) * (one - x) - (a + 3)) * (one - x) * (one - x) + one,
    ]
    weights.append(one - weights[0] - weights[1] - weights[2])
    return np.clip(first[:, None] + np.arange(-1, 3), 0, old - 1), np.stack(weights, axis=1).astype(np.float32)


def _area(image: np.ndarray, height: int, width: int, step: Json) -> np.ndarray:
    old_height, old_width = image.shape[:2]
    if height > old_height or width > old_width:
        return _blend(image, _area_starts(height, old_height), _area_starts(width, old_width))
    if old_height % height == 0 and old_width % width == 0:
        tall, wide = old_height // height, old_width // width
        sums = image.reshape(height, tall, width, wide, 3).sum(axis=(1, 3), dtype=np.int64)
        if tall == wide == 2:
            return ((sums + 2) >> 2).astype(np.uint8)
        return _bytes(sums.astype(np.float32) * np.float32(1 / (tall * wide)))
    mixed = _across(image, _area_taps(width, old_width))
    return _bytes(_down(mixed, _area_taps(height, old_height)))


def _area_starts(new: int, old: int) -> Taps:
    places, scale = np.arange(new), new / old
    first = np.floor(places * (1 / scale)).astype(np.int64)
    share = (places + 1 - (first + 1) * scale).astype(np.float32)
    return first, np.where(share <= 0, np.float32(0), share - np.floor(share))


def _area_taps(new: int, old: int) -> Taps:
    """Return the source pixels below each target pixel, and the part of it that each covers."""
    scale = 1 / (new / old)
    taps = []
    for place in range(new):
        begin = place * scale
        end, covered = begin + scale, min(scale, old - begin)
        last = min(int(np.floor(end)), old - 1)
        first = min(int(np.ceil(begin)), last)
        parts = [(first - 1, (first - begin) / covered)] if first - begin > 1e-3 else []
        parts += [(one, 1 / covered) for one in range(first, last)]
        parts += [(last, min(end - last, 1.0, covered) / covered)] if end - last > 1e-3 else []
        taps.append(parts)
    most = max(map(len, taps))
    full = np.array([parts + [(0, 0.0)] * (most - len(parts)) for parts in taps])
    return full[..., 0].astype(np.int64), full[..., 1].astype(np.float32)


# In a shell

EXTENSIONS = (
    '.jpg', '.jpeg', '.jpe', '.jfif', '.mpo', '.png', '.apng', '.webp', '.bmp', '.dib', '.ppm', '.pgm', '.pbm', '.pnm',
    '.tif', '.tiff', '.gif', '.avif', '.jp2', '.j2k', '.j2c', '.jpc', '.jpf', '.jpx', '.heic', '.heif', '.hif', '.jxl',
    '.tga', '.qoi', '.pcx', '.ras',
)  # fmt: skip


def image_files(path: str, seed: Optional[int] = None) -> list[str]:
    """Return the images below a folder, sorted or, with a seed, in random order; for any other path, the path.

    Hidden files and folders are left out, and files without an extension of :data:`EXTENSIONS`, as in a training.
    """
    if not os.path.isdir(path):
        return [path]
    known, found = tuple({*EXTENSIONS} & {*Image.registered_extensions()}), []
    for folder, folders, names in os.walk(path, followlinks=True):
        folders[:] = [n for n in folders if not (_is_hidden(n) or _is_around(os.path.join(folder, n), folder))]
        found += [os.path.join(folder, name) for name in names if not _is_hidden(name)]
    found = sorted(one for one in found if one.lower().endswith(known))
    if not found:
        raise ValueError(f'{path} contains no image.')
    if seed is not None:
        random.Random(seed).shuffle(found)
    return found


def _is_hidden(name: str) -> bool:
    return name.startswith('.') or name == '__MACOSX'


def _is_around(path: str, folder: str) -> bool:
    """Return whether a path links to a folder that contains ``folder``, or to it."""
    return os.path.join(os.path.realpath(folder), '').startswith(os.path.join(os.path.realpath(path), ''))


def main() -> int:
    """Print one JSON object for each image; the exit code is 1 if an image cannot be read or the alarm is raised."""
    parser = argparse.ArgumentParser(description='Predict with the exported model in the folder of this file.')
    parser.add_argument('images', nargs='+', help='image files, or folders, of which all images are read')
    parser.add_argument('--batch-size', type=int, default=32, help='number of images in a batch; default: 32')
    parser.add_argument('--top-k', type=int, default=5, help='number of classes in "top"; default: 5')
    parser.add_argument(
        '--alarm', action='store_true', help='raise an alarm when images differ from the held-out ones of the export. '
        'Files are read in the given order, those of a folder in random order'
    )  # fmt: skip
    parser.add_argument('--state', metavar='FILE', help='with --alarm: continue from FILE (.json), and write it')
    args = parser.parse_args()
    if args.state and not args.alarm:
        parser.error('--state needs --alarm: add it.')
    if args.state and not os.access(os.path.dirname(os.path.abspath(args.state)), os.W_OK):
        parser.error(f'--state {args.state} cannot be written: its folder does not exist or is not writable.')
    if args.top_k < 1:
        parser.error(f'expected --top-k of at least 1, got {args.top_k}.')
    failed = []

    def skip(image: Any, error: Exception) -> None:
        failed.append(image)
        print(json.dumps({'path': image, 'error': str(error)}), flush=True)

    try:
        images = [image for path in args.images for image in image_files(path, seed=0 if args.alarm else None)]
        model = Model()
        alarm: Any = model.alarm() if args.alarm else None
        if args.state and os.path.exists(args.state):
            alarm.restore(args.state)
        try:
            for answer in model.answers(images, args.batch_size, args.top_k, on_error=skip, alarm=alarm):
                print(json.dumps(answer), flush=True)
        finally:
            if args.state:
                alarm.save(args.state)
        if alarm is not None:
            print(alarm, file=sys.stderr)
            return 1 if failed or alarm.alarm_at is not None else 0
        return 1 if failed else 0
    except (ValueError, ImportError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main())
