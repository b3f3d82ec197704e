"""Measure each way to run a trained model: interleaved, in separate processes, on the same images."""

import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Optional, cast

import numpy as np
import torch

from hybridcls.checks import check_choice, check_number, counted
from hybridcls.functional.calibration import apply_scaling
from hybridcls.models.adapters import add_token_merging
from hybridcls.processor import BFLOAT16_FLAGS, cpu_flags
from hybridcls.structures import Calibration

from ..artifact.artifact_folder import check_no_program
from ..artifact.network_input import read_network_input
from ..artifact.shipped.runtime import Model, read_sidecar
from ..compile_plan import estimated_compile_seconds
from ..held_out_images import held_out_images
from ..image_inputs import Item, read_inputs
from ..inference_settings import InferenceSettings
from ..inferencer import HybridInferencer
from ..machine import busy_processors, machine
from ..timing import interleaved_seconds, timing_of
from .candidate import Candidate, sentence_of
from .child import Child, ChildError
from .exports import EXPORTS, Exports
from .row import Row, Speed, accuracy_of, verdict_on

__all__ = ['RULES', 'Benchmark', 'BenchmarkOptions', 'benchmark']

RULES = ('interval', 'estimate')
_BUSY = 0.5  # of the processors that others use
_MEBIBYTE = 2**20
_PREPROCESSED = 64  # images that the preprocessing is timed with
_CPU = ('eager', 'bf16', 'channels_last', 'compiled', 'compiled+bf16', 'tome=0.04', 'tome=0.08',
        'tome=0.04+compiled+bf16', *EXPORTS)  # fmt: skip
_GPU = ('eager', 'bf16', 'channels_last+bf16', 'compiled', 'compiled+channels_last+bf16', 'tome=0.04', 'tome=0.08',
        'tome=0.04+compiled+channels_last+bf16')  # fmt: skip


@dataclass(frozen=True)
class BenchmarkOptions:
    """The options of a benchmark.

    Args:
        batch_sizes (Sequence[int]): Images of a call. Defaults to 1, 8 and 64.
        settings (Sequence[str], optional): Names of :meth:`InferenceSettings.of_name`, or of :data:`EXPORTS`. Defaults
            to None: those that may pay on the device, and what is compiled at the largest batch alone.
        max_loss (float): Points of accuracy that may be lost, >= 0. Defaults to 0.5.
        rule (str): ``'interval'`` or ``'estimate'``, see :func:`verdict_on`. Defaults to ``'interval'``.
        rounds (int): Calls of each, at most. Defaults to 21.
        seconds (float): No round begins after so many, of a batch size. Defaults to 60.
        workers (int, optional): Threads that read images. Defaults to None: as in a prediction.
        trust (bool): Whether code in the checkpoint may run. Defaults to False.
    """

    batch_sizes: Sequence[int] = (1, 8, 64)
    settings: Optional[Sequence[str]] = None
    max_loss: float = 0.5
    rule: str = 'interval'
    rounds: int = 21
    seconds: float = 60.0
    workers: Optional[int] = None
    trust: bool = False

    def times(self, settings: Optional[InferenceSettings], size: int) -> bool:
        """Return whether settings (None: an artifact) are timed at a batch size; each size compiles again."""
        is_compiled = settings is not None and settings.compile
        return not is_compiled or self.settings is not None or size == max(self.batch_sizes)

    def __post_init__(self) -> None:
        for size in self.batch_sizes:
            check_number('benchmark', 'batch_sizes', size, 1, integer=True)
        check_number('benchmark', 'max_loss', self.max_loss, 0, 100)
        check_number('benchmark', 'rounds', self.rounds, 1, integer=True)
        check_number('benchmark', 'seconds', self.seconds, 0)
        check_choice('benchmark', 'rule', self.rule, RULES)
        for name in self.settings or ():
            if name not in EXPORTS:
                InferenceSettings.of_name(name)


@dataclass
class Benchmark:
    """The results of a benchmark.

    Args:
        machine (dict): Names and numbers of the machine.
        rows (list[Row]): The first is what the others are compared with.
        preprocess_ms (float, optional): Of an image, by one thread, where images were given.
        chosen (str, optional): The fastest row (``Speed.ratio``) at the largest batch that ``hybridcls predict`` can
            run and that loses no more than was wanted.
        notes (list[str]): Sentences.
    """

    machine: dict[str, Any]
    rows: list[Row]
    preprocess_ms: Optional[float] = None
    chosen: Optional[str] = None
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the results in JSON's types."""
        return dict(
            machine=self.machine, rows=[row.as_dict() for row in self.rows], preprocess_ms=self.preprocess_ms,
            chosen=self.chosen, notes=self.notes,
        )  # fmt: skip


def benchmark(
    source: Any,
    options: BenchmarkOptions,
    model: Optional[HybridInferencer] = None,
    opened: Optional[dict[str, Any]] = None,
    data: Optional[str] = None,
    tell: Callable[[str], Any] = lambda sentence: None,
    child: Callable[[Candidate], Any] = Child,
) -> Benchmark:
    """Benchmark a checkpoint with several inference settings, or an artifact.

    Args:
        source: The checkpoint, or the folder of an artifact.
        options (BenchmarkOptions): How.
        model (HybridInferencer, optional): The checkpoint, opened; None for an artifact.
        opened (dict, optional): ``device``, ``config``, ``amp`` that it was opened with.
        data (str, optional): Held-out images; with labels there is an accuracy. Defaults to None.
        tell (Callable): Takes sentences while it works.
        child (Callable): Starts what runs a candidate. Defaults to a process.

    Raises:
        ValueError: If an option is out of range, or the first row cannot be run.
    """
    device = torch.device('cpu') if model is None else model.device
    load = busy_processors()
    with ExitStack() as stack:
        images = None if data is None else _Images(model, source, data, options)
        candidates = []
        rows: list[Row] = []
        opened = (opened or {}) | dict(calibration=False)  # of all alike, when the answers are compared
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix='hybridcls_benchmark_')))
        items = [] if images is None else images.items
        exports = Exports(str(source), folder, opened.get('config'), items, options.max_loss, tell)
        names = _names(model, device, options)
        wanted = {name: None if name in EXPORTS or model is None else InferenceSettings.of_name(name) for name in names}
        tell(_expected_time(list(wanted.values()), model, options))
        for name, settings in wanted.items():
            rows.append(Row(name, settings))
            try:
                given = exports.folder_of(name) if name in EXPORTS else source
            except Exception as error:
                rows[-1].missing = sentence_of(error)
                continue
            more = opened if settings is not None else {}
            candidates.append(
                (rows[-1], Candidate(name, settings, given, torch.get_num_threads(), more, options.trust))
            )
        running = []
        for row, candidate in candidates:
            one = child(candidate)
            stack.callback(one.close)
            running.append((row, one))
        running = [pair for pair in running if _try(pair[0], pair[1].wait, tell)]
        if not running or running[0][0] is not rows[0]:
            raise _cannot_be_run(rows[0])
        for row, one in running:
            with suppress(ChildError):  # the speeds do not depend on a count
                flops = one.ask('flops')
                row.gflops = None if flops is None else flops / 1e9
        for size in sorted(set(options.batch_sizes)):
            timed = [pair for pair in running if options.times(pair[0].settings, size)]
            timed = _time(size, timed, options, tell)
            running = [pair for pair in running if not pair[0].missing] if timed else []
            if not rows[0].speeds:  # not even at the smallest batch, so there is nothing to compare with
                raise _cannot_be_run(rows[0])
        result = Benchmark(machine(device), rows, notes=exports.notes)
        for row in rows[1:]:
            merges = row.settings is not None and row.settings.token_merging_ratio
            if merges and row.gflops is not None and row.gflops == rows[0].gflops:
                result.notes.append(f'{row.name} merges no token: an image has too few for this ratio.')
        if load > _BUSY * (os.cpu_count() or 1):
            result.notes.append(
                f'The machine was busy before (load {load:.1f}, {os.cpu_count()} processors): all times are too long, '
                'especially with many small operations on several threads. Measure again when it is idle.'
            )
        if images is not None:
            result.preprocess_ms = images.preprocess_ms
            _judge(images, running, options, tell)
            result.notes += images.notes
    _choose(result, options)
    return result


def _cannot_be_run(row: Row) -> ValueError:
    return ValueError(f'benchmark: {row.name} cannot be run: {row.missing}')


def _names(model: Optional[HybridInferencer], device: torch.device, options: BenchmarkOptions) -> list[str]:
    if model is None:
        return ['artifact']
    names = list(options.settings or (_GPU if device.type == 'cuda' else _CPU))
    if 'eager' not in names:
        names.insert(0, 'eager')
    names.sort(key=lambda name: name != 'eager')
    if options.settings is None and device.type == 'cpu' and not {*BFLOAT16_FLAGS} & {*cpu_flags()}:
        names = [name for name in names if 'bf16' not in name]
    if options.settings is None and not _merges_tokens(model.model):
        names = [name for name in names if 'tome=' not in name]
    return list(dict.fromkeys(names))


def _merges_tokens(model: Any) -> bool:
    try:
        add_token_merging(model, 0.1).undo()
    except ValueError:
        return False
    return True


def _expected_time(
    wanted: Sequence[Optional[InferenceSettings]], model: Optional[HybridInferencer], options: BenchmarkOptions
) -> str:
    """Return a sentence on how long the benchmark will take, and what it leaves out to save time."""
    sizes = sorted(set(options.batch_sizes))
    text = (
        f'batch {", ".join(map(str, sizes))}: each at most {options.rounds} rounds or {options.seconds:g} s of timing'
    )
    compiled = [one for one in wanted if one is not None and one.compile]
    if not compiled or model is None:
        return f'{text}.'
    count = sum(options.times(one, size) for one in compiled for size in sizes)
    minutes = count * estimated_compile_seconds(model.model) / 60
    text += f'. Compilations: {count}, about {minutes:.1f} minutes of an idle machine.'
    if count < len(compiled) * len(sizes):
        text += f' Compiled settings are timed at batch {sizes[-1]} only, and with --settings NAME ... at each size.'
    return text


def _try(row: Row, function: Callable[[], Any], tell: Callable[[str], Any]) -> bool:
    """Call a function of a row; if it fails, note the reason in the row and return False."""
    try:
        function()
    except ChildError as error:
        row.missing = str(error)
        tell(f'{row.name}: {error}')
        return False
    return True


def _time(
    size: int, running: list[tuple[Row, Any]], options: BenchmarkOptions, tell: Callable[[str], Any]
) -> list[tuple[Row, Any]]:
    """Time all rows at a batch size, with their memory; return those that work, none if the first one fails."""
    if not running:
        return []
    first: dict[str, float] = {}
    reference = running[0][0]

    def prepare(row: Row, one: Any) -> None:
        if row.settings is not None and row.settings.compile:
            tell(f'batch {size}: compiling {row.name}.')
        first[row.name] = one.ask('prepare', size)
        one.ask('run')

    def run(row: Row, one: Any) -> float:
        seconds = [math.nan]
        if not row.missing:
            _try(row, lambda: seconds.append(one.ask('run')), tell)
        return seconds[-1]

    def note_memory(speed: Speed, one: Any) -> None:
        memory = one.ask('memory')
        if memory['peak'] is not None:
            speed.peak_mib, speed.beyond_mib = memory['peak'] / _MEBIBYTE, memory['beyond'] / _MEBIBYTE

    running = [(row, one) for row, one in running if _try(row, partial(prepare, row, one), tell)]
    if not reference.missing:
        tell(f'batch {size}: timing {", ".join(row.name for row, _ in running)}.')
        measures = {row.name: partial(run, row, one) for row, one in running}
        seconds = interleaved_seconds(measures, options.rounds, 1, options.seconds)
    if reference.missing:
        return []
    for row, one in running:
        if not row.missing:
            ratio = timing_of(seconds[row.name], seconds[reference.name]).ratio
            row.speeds[size] = Speed.of(size, seconds[row.name], ratio, first[row.name])
            _try(row, partial(note_memory, row.speeds[size], one), tell)
    return [(row, one) for row, one in running if not row.missing]


def _judge(
    images: '_Images', running: list[tuple[Row, Any]], options: BenchmarkOptions, tell: Callable[[str], Any]
) -> None:
    """Run all rows on the same images, and compare their predictions."""
    if not running:
        return
    if images.multi_label:
        images.notes.append('Images may have several labels, so no accuracy is measured.')
        return
    reference = running[0][0]
    found: dict[str, list[np.ndarray]] = {row.name: [] for row, _ in running}
    tell(f'accuracy: {counted(len(images), "image")} by {counted(len(running), "setting")}.')

    def ask(row: Row, one: Any, packed: Any) -> None:
        given = packed if row.settings is not None else images.for_graph(packed)
        found[row.name].append(one.ask('answers', given).get('probabilities'))

    for packed in images.batches(max(options.batch_sizes)):
        running = [(row, one) for row, one in running if _try(row, partial(ask, row, one, packed), tell)]
    if reference.missing or not images.labels:  # none could be read, which a note says
        return
    found = {row.name: found[row.name] for row, _ in running}
    if any(part is None for parts in found.values() for part in parts):
        images.notes.append('The head has no classes, so no accuracy is measured.')
        return
    calibration = images.calibration
    scaling = dict(kind='none') if calibration is None else calibration.scaling
    scores = {
        name: apply_scaling(scaling, torch.from_numpy(np.concatenate(parts))).numpy() for name, parts in found.items()
    }
    labels = np.array(images.labels)
    images.note_unknown()
    threshold = None if calibration is None or calibration.risk is None else calibration.risk['threshold']
    for row, _ in running:
        row.accuracy = accuracy_of(scores[row.name], scores[reference.name], labels, threshold)
        row.verdict, row.why = verdict_on(row, options.max_loss, options.rule)
    if calibration is not None and calibration.has_guarantee:
        images.notes.append(
            f'The stored thresholds were calibrated in {calibration.precision}, and guarantee nothing for other '
            'settings. Type hybridcls calibrate with --config to calibrate them again.'
        )


def _choose(result: Benchmark, options: BenchmarkOptions) -> None:
    """Choose the fastest row at the largest batch size that stays within the allowed loss."""
    size = max(options.batch_sizes)
    timed = sorted((row for row in result.rows if size in row.speeds), key=lambda row: row.speeds[size].ratio)
    good = [row for row in timed if row.verdict == 'within']
    usable = next((row for row in good if row.settings is not None), None)
    result.chosen = None if usable is None else usable.name
    for row in timed:
        if row is usable or (usable is None and not good):
            break
        speed = f'{row.speeds[size].images_per_second:.1f} images/s at batch {size}'
        if row.verdict == 'within' and row is not result.rows[0]:  # there: an artifact alone
            result.notes.append(f'{row.name} is faster ({speed}): `hybridcls export` writes it.')
        elif row.verdict != 'within':
            result.notes.append(f'{row.name} is faster ({speed}) but not chosen: {row.why}.')


class _Images:
    """Held-out images, preprocessed once for all rows, and the calibration of the predictions."""

    calibration: Optional[Calibration] = None

    def __init__(self, model: Optional[HybridInferencer], source: Any, data: str, options: BenchmarkOptions) -> None:
        self._model, self._workers = model, options.workers
        self.labels: list[int] = []
        self._unknown: dict[str, None] = {}  # labels that are no classes of the model, in order
        self.notes: list[str] = []
        if model is None:
            self._artifact = Model(source, check_files=False)
            items = list(read_inputs(data, 'benchmark').items)
            sidecar = self._artifact.sidecar
            self.multi_label = bool(sidecar['multi_label'])
            if sidecar.get('calibration'):
                self.calibration = Calibration.from_json(sidecar['calibration'], source)
            names = [sidecar['classes'], sidecar['folders'] or []]
            self._number_of = {name: number for of in names for number, name in enumerate(of)}
        else:
            items, self.notes = held_out_images(data, model.checkpoint_path, model.config, 'benchmark')
            self._number_of = {name: number for number, name in enumerate(model.classes)}
            self.multi_label = model.multi_label
            self.calibration = model.calibration.calibration if model.calibration is not None else None
        self.items = items
        self.preprocess_ms = self._time_preprocessing()

    def __len__(self) -> int:
        return len(self.items)

    def _time_preprocessing(self) -> float:
        items = self.items[:_PREPROCESSED]
        began = time.perf_counter()
        if self._model is None:
            for item in items:
                self._prepared(item)
        else:
            for _ in self._model.preprocess(items, 1, 0):
                pass
        return 1e3 * (time.perf_counter() - began) / len(items)

    def batches(self, size: int) -> Any:
        """Yield the network's inputs as arrays; labels are collected on the way."""
        if self._model is None:
            for begin in range(0, len(self.items), size):
                part = [(item, self._prepared(item)) for item in self.items[begin : begin + size]]
                read = [(item, image) for item, image in part if image is not None]
                if len(read) < len(part):
                    self.notes.append(f'{counted(len(part) - len(read), "image")} cannot be read.')
                if read:
                    self._note_labels([item for item, _ in read], lambda label: label)
                    yield np.stack([image for _, image in read])
            return
        workers = min(8, os.cpu_count() or 1) if self._workers is None else self._workers
        for read, failed in self._model.preprocess(self.items, size, workers):
            if failed:
                self.notes.append(f'{counted(len(failed), "image")} cannot be read, the first: {failed[0][0].path}.')
            if read:
                self._note_labels([item for item, _ in read], self._model.class_of)
                yield [_arrays(sample['inputs']) for _, sample in read]

    def _note_labels(self, items: Sequence[Item], class_of: Callable[[str], Optional[str]]) -> None:
        for item in items:
            name = None if item.label is None else class_of(item.label)
            self.labels.append(-1 if name is None else self._number_of.get(name, -1))
            if self.labels[-1] < 0 and item.label is not None:
                self._unknown[item.label] = None

    def note_unknown(self) -> None:
        """Note how many of the readable images are left out of the accuracy."""
        count = self.labels.count(-1)
        which = f' (such as {next(iter(self._unknown))})' if self._unknown else ''
        if count == len(self.labels):
            self.notes.append(f'No image has a label that is a class of the model{which}, so no accuracy is measured.')
        elif count:
            self.notes.append(
                f'Not in the accuracy: {counted(count, "image", of=len(self.labels))} without a label that is a class '
                f'of the model{which}.'
            )

    def _prepared(self, item: Item) -> Optional[np.ndarray]:
        """Preprocess an image for an artifact; return None if it cannot be read."""
        try:
            return self._artifact.prepare(item.path)
        except (ValueError, OSError):
            return None

    def for_graph(self, packed: Any) -> np.ndarray:
        """Return the images as a graph takes them, RGB (N, h, w, C)."""
        if self._model is None:  # an artifact's own preprocessing has made them
            return packed
        given = read_network_input(cast(Any, self._model))  # of which it looks at the pipeline
        return given.unpacked([torch.from_numpy(one) for one in packed])


def _arrays(inputs: Any) -> Any:
    return inputs.numpy() if isinstance(inputs, torch.Tensor) else [view.numpy() for view in inputs]


def check_artifact(folder: str, trust: bool) -> None:
    """Raise unless a folder is an artifact that is safe to open."""
    check_no_program('benchmark', folder, trust)
    read_sidecar(folder)
