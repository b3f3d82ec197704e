"""Quantize an artifact to int8, unless that loses more than allowed."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
import torch

from hybridcls.checks import counted, listed
from hybridcls.structures import Calibration

from ..calibration_fit import LabelledScores, fit_calibration
from ..image_inputs import Item
from .comparison import largest_differences
from .quantization_loss import Comparison, compare, too_much_lost
from .quantize import Quantization, quantize
from .shipped.runtime import Model, open_graph
from .sidecar import write_sidecar

__all__ = ['LEAST_IMAGES', 'Quantized', 'TooMuchLost', 'check_images', 'quantize_artifact', 'quantize_graph']

LEAST_IMAGES = 128
"""With fewer, a quarter is too few to quantize with."""
_QUANTIZES, _MOST_QUANTIZE = 0.25, 256  # share of the images, and how many at most
_BATCH = 32
_POINTS_MOVED = 3  # for each point that may be lost: a network whose probabilities moved by 3.1 points lost 0.6
_SPEED_BATCH, _SPEED_RUNS = 8, 10


class Quantized(NamedTuple):
    """The result of quantizing an artifact.

    Args:
        quantization (Quantization): How.
        comparisons (list[Comparison]): What it costs on the images that judge it.
        judges (list[Item]): Those images.
        notes (list[str]): All of it, in sentences.
    """

    quantization: Quantization
    comparisons: list[Comparison]
    judges: list[Item]
    notes: list[str]


class TooMuchLost(Exception):
    """The quantization loses more than allowed.

    Args:
        message (str): A sentence.
        notes (Sequence[str]): What was done and measured.
        comparisons (Sequence[Comparison]): What it would cost.
    """

    def __init__(self, message: str, notes: Sequence[str], comparisons: Sequence[Comparison]) -> None:
        super().__init__(message)
        self.notes, self.comparisons = list(notes), list(comparisons)


def check_images(images: int) -> None:
    """Raise a ValueError unless there are enough held-out images to quantize with and to evaluate on."""
    if images < LEAST_IMAGES:
        raise ValueError(
            f'export: expected at least {LEAST_IMAGES} held-out images with labels for --dtype int8, got {images}.'
        )


def quantize_graph(
    model: Model,
    out: Path,
    items: Sequence[Item],
    max_loss: float = 1.0,
    seed: int = 0,
    tell: Callable[[str], None] = lambda sentence: None,
    notes: Optional[list[str]] = None,
) -> tuple[Quantization, np.ndarray, list[Item]]:
    """Write the graph of a float32 artifact in int8; a random quarter of the images (at most 256) sets the ranges.

    Args:
        model (Model): The artifact, in ONNX.
        out (Path): The file to write.
        items (Sequence[Item]): Held-out images with labels, which are not looked at.
        max_loss (float): How many points may be lost: products stay in float32 by it. Defaults to 1.
        seed (int): Of the division of the images. Defaults to 0.
        tell (Callable): Takes sentences while it works.
        notes (list[str], optional): Gets a sentence about images that cannot be read.

    Returns:
        tuple[Quantization, np.ndarray, list[Item]]: How, the images that quantized, uint8 (N, h, w, 3), and the other
        items.

    Raises:
        ValueError: If there are too few images.
    """
    labelled = [item for item in items if item.label is not None]
    check_images(len(labelled))
    order = [labelled[row] for row in np.random.default_rng(seed).permutation(len(labelled))]
    split = min(_MOST_QUANTIZE, round(_QUANTIZES * len(order)))
    read = _prepared(model, order[:split], [] if notes is None else notes)
    images = np.concatenate([batch for batch, _ in read])
    file, target = Path(model.folder, model.sidecar['model']['file']), min(1.0, max(1, _POINTS_MOVED * max_loss) / 100)
    return quantize(file, out, images, target, tell=tell), images, order[split:]


def quantize_artifact(
    folder: Path,
    items: Sequence[Item],
    max_loss: float = 1.0,
    seed: int = 0,
    tell: Callable[[str], None] = lambda sentence: None,
) -> Quantized:
    """Replace the graph of a complete float32 artifact by one in int8, and fit its thresholds again.

    A random quarter of the images (256 at most) quantizes, without a look at their labels; the others judge, and fit
    the calibration again on the scores of int8, since a threshold of float32 guarantees nothing for these. What they
    judge, before and after, has the calibration of float32.

    Args:
        folder (Path): The artifact, in ONNX.
        items (Sequence[Item]): Held-out images with labels.
        max_loss (float): How many points may be lost: of accuracy (F1 of several labels an image, recall@1 of
            embeddings alone), and surely (at the lower end of the interval) of ECE and of the coverage at a calibrated
            threshold, which are fitted again. Defaults to 1.
        seed (int): Of the division of the images. Defaults to 0.
        tell (Callable): Takes sentences while it works.

    Raises:
        ValueError: If there are too few images, or they have no labels of the model.
        TooMuchLost: If it loses more.
    """
    model = Model(folder, check_files=False)
    sidecar = model.sidecar
    about, names = sidecar['model'], list(sidecar['model']['outputs'])
    file, in_int8 = folder / about['file'], folder / 'int8.onnx'
    calibration = Calibration.from_json(sidecar['calibration'], str(folder)) if sidecar['calibration'] else None
    notes: list[str] = []
    done, images, others = quantize_graph(model, in_int8, items, max_loss, seed, tell, notes)
    runs = [open_graph(os.fspath(folder), about | dict(file=path.name)) for path in (file, in_int8)]
    parts, judges = [], []
    for batch, read in _prepared(model, others, notes):
        parts.append([run(batch) for run in runs])
        judges += read
    before, after = (_joined(of) for of in zip(*parts, strict=True))
    labels = _labels_of(judges, sidecar)
    limits = sidecar['class_thresholds']
    comparisons = compare(
        before, after, labels, calibration, None if limits is None else torch.tensor(limits, dtype=torch.float64)
    )
    notes += [
        f'{done}. {len(images)} of {len(images) + len(others)} images (seed {seed}) quantize, {len(judges)} others '
        'judge.',
        *done.notes,
        *map(str, comparisons),
        _size_and_speed((file, in_int8), images[:_SPEED_BATCH]),
    ]
    if worst := too_much_lost(comparisons, max_loss):
        lost = ' and '.join(f'{getattr(one.lost, one.counts):.2f} points of {one.meaning}' for one in worst)
        raise TooMuchLost(
            f'export: int8 loses {lost}, more than --max-loss {max_loss:g}. Nothing was written. Type --dtype float16, '
            'or allow more: --max-loss POINTS.',
            notes,
            comparisons,
        )
    golden = _golden_again(folder / sidecar['golden']['file'], runs[1])
    difference = largest_differences(names, [golden[0]], [golden[1]])
    os.replace(in_int8, file)
    if calibration is not None:
        calibration = _calibrated_again(calibration, after, labels, seed, notes)
    write_sidecar(
        folder,
        sidecar
        | dict(
            model=about | dict(dtype='int8', difference=difference, quantization=asdict(done)),
            calibration=None if calibration is None else calibration.to_json(),
            metrics=(sidecar['metrics'] or {}) | _metrics(comparisons),
        ),
    )
    return Quantized(done, comparisons, judges, notes)


def _prepared(model: Model, items: Sequence[Item], notes: list[str]) -> Iterator[tuple[np.ndarray, list[Item]]]:
    """Yield batches of images as the graph takes them, with their indices; note how many cannot be read."""
    unreadable: list[str] = []
    for first in range(0, len(items), _BATCH):
        batch, read = [], []
        for item in items[first : first + _BATCH]:
            try:
                batch.append(model.prepare(item.source))
                read.append(item)
            except (ValueError, OSError) as error:
                unreadable.append(str(error))
        if batch:
            yield np.stack(batch), read
    if unreadable:
        notes.append(f'{counted(len(unreadable), "image")} cannot be read, the first: {unreadable[0]}')


def _joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}


def _labels_of(items: Sequence[Item], sidecar: Mapping[str, Any]) -> torch.Tensor:
    """Return class numbers, -1 for unknown classes; for multi-label images a table; see :func:`compare`."""
    classes = sidecar['classes']
    if not classes:  # embeddings alone: any names tell images of one class from others
        classes = sorted({str(item.label) for item in items})
    number_of = {name: number for names in (sidecar['folders'] or [], classes) for number, name in enumerate(names)}
    if sidecar['multi_label']:
        table = torch.zeros(len(items), len(classes), dtype=torch.bool)
        for row, item in enumerate(items):
            table[row, [number_of[name] for name in str(item.label).split('|') if name in number_of]] = True
        return table
    labels = torch.tensor([number_of.get(str(item.label), -1) for item in items])
    if len(labels[labels >= 0].unique()) < 2:
        raise ValueError(
            f'export: expected images of at least two of the classes {listed(classes, 5)}, got '
            f'{listed({str(item.label) for item in items}, 5)}.'
        )
    return labels


def _size_and_speed(files: Sequence[Path], images: np.ndarray) -> str:
    """Measure file sizes, and the CPU time of both graphs in turn on one thread, which other load hardly affects."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    sessions = [InferenceSession(os.fspath(path), options, providers=['CPUExecutionProvider']) for path in files]
    before, after = (path.stat().st_size / 1e6 for path in files)
    parts = [f'{before:.1f} -> {after:.1f} MB ({before / after:.1f} times smaller)']
    for size in (1, len(images)):
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(_SPEED_RUNS):
            for session, taken in zip(sessions, times, strict=True):
                began = time.process_time()
                session.run(None, {'images': images[:size]})
                taken.append((time.process_time() - began) * 1000 / size)
        old, new = map(min, times)
        parts.append(f'{old:.2f} -> {new:.2f} ms an image in batches of {size} ({old / new:.1f} times as fast)')
    return f'size and time of this processor, on one thread: {", ".join(parts)}'


def _golden_again(
    file: Path, run: Callable[[np.ndarray], Mapping[str, np.ndarray]]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Replace the stored outputs of the golden images by those of int8; return the old and the new ones."""
    with np.load(file, allow_pickle=False) as arrays:
        stages = dict(arrays)
    now = {name: values for name, values in run(stages['input']).items() if name in stages}
    before = {name: stages[name] for name in now}
    np.savez_compressed(file, **(stages | now))  # type: ignore[arg-type]
    return before, now


def _calibrated_again(
    old: Calibration, outputs: Mapping[str, torch.Tensor], labels: torch.Tensor, seed: int, notes: list[str]
) -> Optional[Calibration]:
    """Fit the same calibration to the scores of int8, without the parts for which there are too few images."""
    risk, sets = old.risk or {}, old.sets or {}
    try:
        report = fit_calibration(
            LabelledScores(outputs['probabilities'], labels, 'int8', old.img_size), old.classes, old.scaling['kind'],
            risk.get('risk'), risk.get('confidence', 0.95), sets.get('alpha'), seed,
        )  # fmt: skip
    except ValueError as error:
        notes.append(f'The calibration of float32 does not hold for int8, and none was fitted again: {error}')
        return None
    new = replace(
        report.calibration,
        checkpoint=old.checkpoint,
        weights_sha256=old.weights_sha256,
        preprocessing_version=old.preprocessing_version,
    )
    notes.append(f'Calibrated again, on the int8 scores of the images that judge: {new}.')
    if new.risk is not None:
        answered, images = new.risk['answered'], new.risk['images']
        notes.append(f'It answers {answered} of {images} images that tested the threshold, {new.risk["errors"]} wrong.')
    notes += [*report.notes, *report.missing]
    return new


def _metrics(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Return the sidecar's metrics of both graphs, with the calibration of float32."""
    return {
        f'{dtype}/{one.name}': getattr(one, when).as_metric(one.images)
        for one in comparisons
        for dtype, when in (('float32', 'before'), ('int8', 'after'))
    }
