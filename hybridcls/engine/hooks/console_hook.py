"""Show a run's summary, progress and results on the console."""

import os
import time
from collections.abc import Sequence
from datetime import timedelta
from textwrap import indent
from typing import Any, Optional

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import CheckpointHook, Hook, LoggerHook
from mmengine.model import BaseTTAModel
from numpy import ndarray
from torch import Tensor

import hybridcls
from hybridcls.checks import counted
from hybridcls.compat.mmengine import bare_model, built_loop
from hybridcls.evaluation.class_report import Rows
from hybridcls.registry import HOOKS

from ..config.change import table_of
from ..config.origins import RUNNER_KEYS
from ..optim.update.parameter_names import wrappers_by_name
from ..runner.console import Bars

_OF_TRAINING = tuple(key for key in RUNNER_KEYS if key.startswith(('train_', 'val_', 'optim_', 'param_', 'load_from')))
_FEW = 3  # metrics that one line has room for


@HOOKS.register_module()
class ConsoleHook(Hook):
    """Summarize the run before it starts, then show progress and a table of each evaluation; every run has this hook.

    On a terminal there are bars, for the training, the validation and whatever else takes long; elsewhere a line at
    each interval of the LoggerHook. The log file has more: the environment, the config, every scalar.

    Args:
        phase (str): What of a chain of phases this is, such as ``'1 of 2, supcon'``. Defaults to ``''``.
        epochs_after (int): Epochs of the phases that follow, for an estimate of the time that all of them take.
            Defaults to 0.
    """

    priority = 'VERY_LOW'

    def __init__(self, phase: str = '', epochs_after: int = 0) -> None:
        self.phase = phase
        self.epochs_after = epochs_after
        self._bars: Optional[Bars] = None
        self._task: Any = None
        self._evaluation: Any = None
        self._began, self._first = 0.0, 0

    def before_train(self, runner: Any) -> None:
        """Print the summary of the training, and start the progress bars."""
        runner.logger.info(f'{self.phase and f"Phase {self.phase}. "}Training:\n{summary_of(runner)}')
        self._began, self._first = time.monotonic(), runner.iter
        self._open(runner)
        if self._bars is not None:
            self._task = self._bars.progress.add_task('', total=None, told='')

    def before_train_epoch(self, runner: Any) -> None:
        """Start the bar of an epoch."""
        if self._bars is not None:
            name = f'epoch {runner.epoch + 1}/{runner.max_epochs}' if _by_epoch(runner) else 'training'
            total = len(runner.train_dataloader) if _by_epoch(runner) else runner.max_iters
            self._bars.progress.reset(self._task, description=name, total=total)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Optional[dict] = None
    ) -> None:
        """Update the bar; without a terminal, print a line at each interval."""
        if self._bars is not None:
            done = batch_idx + 1 if _by_epoch(runner) else runner.iter + 1
            self._bars.progress.update(self._task, completed=done, told=self._told(runner))
            return
        logger = next((hook for hook in runner.hooks if isinstance(hook, LoggerHook)), None)
        if logger is None:
            return
        last = _by_epoch(runner) and batch_idx + 1 == len(runner.train_dataloader)
        if self.every_n_inner_iters(batch_idx, logger.interval) or (last and batch_idx < logger.interval):
            line = runner.log_processor.get_log_after_iter(runner, batch_idx, 'train')[1]
            runner.logger.info(f'{line}  {self._remaining(runner)}'.rstrip())

    def after_train(self, runner: Any) -> None:
        """Close the bars, and print where the checkpoints are."""
        self._close()
        runner.logger.info(ending_of(runner, self.phase))

    def before_test(self, runner: Any) -> None:
        """Print the summary of the test."""
        runner.logger.info(f'Test:\n{summary_of(runner, training=False)}')
        self._open(runner)

    def after_test(self, runner: Any) -> None:
        """Close the bars."""
        self._close()

    def before_val_epoch(self, runner: Any) -> None:
        """Start the bar of a validation."""
        self._evaluate('validation', runner.val_dataloader)

    def after_val_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Optional[Sequence] = None
    ) -> None:
        """Update the bar."""
        if self._bars is not None:
            self._bars.progress.advance(self._evaluation)

    def after_val_epoch(self, runner: Any, metrics: Optional[dict] = None) -> None:
        """Print the results of a validation."""
        when = f' after {_position(runner)}' if built_loop(runner, 'train') is not None else ''
        self._results(runner, f'Validation{when}', metrics)

    def before_test_epoch(self, runner: Any) -> None:
        """Start the bar of a test."""
        self._evaluate('test', runner.test_dataloader)

    after_test_iter = after_val_iter

    def after_test_epoch(self, runner: Any, metrics: Optional[dict] = None) -> None:
        """Print the results of a test."""
        self._results(runner, 'Test', metrics)

    def _evaluate(self, name: str, loader: Any) -> None:
        if self._bars is not None:
            self._evaluation = self._bars.progress.add_task(name, total=len(loader), told='')

    def _results(self, runner: Any, title: str, metrics: Optional[dict]) -> None:
        if self._bars is not None and self._evaluation is not None:
            self._bars.progress.remove_task(self._evaluation)
            self._evaluation = None
        if metrics:
            runner.logger.info(f'{title}: {results_of(metrics, few=0 if title == "Test" else _FEW)}')

    def _open(self, runner: Any) -> None:
        if Bars.are_shown_here() and Bars.shown is None:
            self._bars = Bars(runner.logger)
            self._bars.start()

    def _close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._bars = self._task = self._evaluation = None

    def _told(self, runner: Any) -> str:
        scalars = runner.message_hub.log_scalars
        parts = [
            f'{name} {scalars[f"train/{name}"].current():.4g}' for name in ('loss', 'lr') if f'train/{name}' in scalars
        ]
        return ', '.join([*parts, self._remaining(runner)]).strip(', ')

    def _remaining(self, runner: Any) -> str:
        """Estimate the time of this training and, in a chain, of all phases."""
        done = runner.iter + 1 - self._first
        rest = (time.monotonic() - self._began) / done * (runner.max_iters - runner.iter - 1)
        left = f'{timedelta(seconds=round(rest))} left'
        if not self.epochs_after or not _by_epoch(runner):
            return left if self._bars is not None else ''
        an_epoch = (time.monotonic() - self._began) / done * runner.max_iters / runner.max_epochs
        return f'{left}, about {timedelta(seconds=round(rest + self.epochs_after * an_epoch))} of all phases'


def summary_of(runner: Any, training: bool = True) -> str:
    """Describe a run in a few lines: model, data, device, schedule, filled values, work dir."""
    model = bare_model(runner.model)
    around = [f'{type(part).__name__} of ' for part in runner.model.modules() if isinstance(part, BaseTTAModel)]
    rows = [('model', ''.join([*around, _model_line(model)])), ('', _parameters_line(model))]
    for kind in ('train', 'val') if training else ('test',):
        loader = getattr(runner, f'{kind}_dataloader', None)
        if hasattr(loader, 'dataset'):
            rows.append((kind, _data_line(loader)))
    rows.append(('device', _device_line(runner)))
    if training:
        rows.append(('schedule', _schedule_line(runner)))
        wrappers = wrappers_by_name(runner.optim_wrapper)
        rows += [('optimizer', f'{name and f"{name}: "}{_optimizer_line(one)}') for name, one in wrappers.items()]
    table = table_of(runner.cfg, left_out=() if training else _OF_TRAINING)
    rows += [('changes' if number == 0 else '', line) for number, line in enumerate(table.splitlines())]
    rows.append(('work dir', f'{runner.work_dir} (log: {runner.timestamp}/{runner.timestamp}.log)'))
    rows.append(('versions', f'hybridcls {hybridcls.__version__}, torch {torch.__version__}'))
    return '\n'.join(f'  {name:<10}{text}'.rstrip() for name, text in rows)


def ending_of(runner: Any, phase: str = '') -> str:
    """Describe where a training, or a phase of a chain, left its best and last checkpoints, with the best score."""
    info = runner.message_hub.runtime_info
    lines = [f'Phase {phase}, has finished.' if phase else 'The training has finished.']
    checkpoint = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
    for kind in ('best', 'last'):
        path = info.get(f'{kind}_ckpt')
        if path:
            name = getattr(checkpoint, 'key_indicators', None)
            score = f' ({name[0]} {info["best_score"]:.4f})' if kind == 'best' and name else ''
            lines.append(f'  {kind} checkpoint: {path}{score}')
    return '\n'.join(lines)


def results_of(metrics: dict, few: int = _FEW) -> str:
    """Format the results of an evaluation: a few in one line, more in a table; then arrays, such as a confusion matrix.

    The ends of an interval stand behind its result. numpy and torch shorten an array of more than 1,000 numbers, and a
    table of rows shortens itself.
    """
    ends = {f'{name}_{end}' for name in metrics for end in ('low', 'high')}
    rows = [(name, f'{value:.4f}' if isinstance(value, float) else str(value)) for name, value in metrics.items()
            if isinstance(value, (int, float, str)) and name not in ends]  # fmt: skip
    rows = [(name, value + _interval_of(name, metrics)) for name, value in rows]
    arrays = {name: value for name, value in metrics.items() if isinstance(value, (Tensor, ndarray, Rows))}
    tables = ''.join(f'\n  {name}\n{indent(str(value), "  ")}' for name, value in arrays.items())
    if len(rows) <= few:
        return ', '.join(f'{name} {value}' for name, value in rows) + tables
    first, second = max(len(name) for name, _ in rows), max(len(value) for _, value in rows)
    return ''.join(f'\n  {name:<{first}}  {value:>{second}}' for name, value in rows) + tables


def _interval_of(name: str, metrics: dict) -> str:
    ends = [metrics.get(f'{name}_{end}') for end in ('low', 'high')]
    return '' if None in ends else f' [{ends[0]:.4f}, {ends[1]:.4f}]'


def _by_epoch(runner: Any) -> bool:
    return not hasattr(runner.train_loop, 'dataloader_iterator')


def _position(runner: Any) -> str:
    return f'epoch {runner.epoch}' if _by_epoch(runner) else f'iteration {runner.iter}'


def _model_line(model: Any) -> str:
    parts = []
    backbone = getattr(model, 'backbone', None)
    streams = [getattr(backbone, name) for name in getattr(backbone, 'stream_names', ())]
    names = [getattr(stream, 'model_name', type(getattr(stream, 'model', stream)).__name__) for stream in streams]
    parts.append(' + '.join(names) or type(backbone).__name__)
    parts += [
        type(part).__name__ for part in (getattr(model, name, None) for name in ('neck', 'head')) if part is not None
    ]
    return f'{type(model).__name__}: {" -> ".join(parts)}' if backbone is not None else type(model).__name__


def _parameters_line(model: Any) -> str:
    numbers = [(param.numel(), param.requires_grad) for param in model.parameters()]
    every, trained = sum(number for number, _ in numbers), sum(number for number, needs in numbers if needs)
    return f'trainable params: {trained:,} || all params: {every:,} || trainable%: {100 * trained / max(1, every):.2f}'


def _data_line(loader: Any) -> str:
    dataset = loader.dataset
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    count = counted(len(dataset), 'image') if hasattr(dataset, '__len__') else 'a stream of images'
    batch = getattr(loader, 'batch_size', None) or getattr(getattr(loader, 'batch_sampler', None), 'batch_size', None)
    return ', '.join(
        [f'{type(dataset).__name__}: {count}']
        + ([counted(len(classes), 'class', 'classes')] if classes else [])
        + ([f'batches of {batch}'] if batch else [])
        + [_workers(loader.num_workers)]
    )


def _workers(number: int) -> str:
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or number
    return (counted(number, 'worker') if number else 'no workers') + (
        f' on {cpus} CPUs (num_workers={cpus} may be faster)' if number > cpus else ''
    )


def _device_line(runner: Any) -> str:
    device = next(runner.model.parameters()).device
    name = f'{device} ({counted(torch.get_num_threads(), "thread")})'
    if device.type == 'cuda':
        name = torch.cuda.get_device_name(device)
    processes = get_world_size()
    return f'{processes} x {name}' if processes > 1 else name


def _schedule_line(runner: Any) -> str:
    length = counted(runner.max_iters, 'iteration')
    if _by_epoch(runner):
        batches = counted(len(runner.train_dataloader), 'batch', 'batches')
        length = f'{counted(runner.max_epochs, "epoch")} of {batches}'
    schedulers = runner.param_schedulers
    groups = schedulers.values() if isinstance(schedulers, dict) else [schedulers or []]
    names = [type(one).__name__ for group in groups for one in group]
    start = ''
    if runner.iter:
        start = f', goes on at {f"epoch {runner.epoch + 1}" if _by_epoch(runner) else f"iteration {runner.iter}"}'
    return f'{length}{start}; {" -> ".join(names) or "a constant rate"}; seed {runner.seed}'


def _optimizer_line(wrapper: Any) -> str:
    group = wrapper.optimizer.defaults
    parts = [f'{type(wrapper.optimizer).__name__}, lr {group.get("lr")}, weight decay {group.get("weight_decay", 0)}']
    parts += [f'{name} ({type(stage).__name__})' for name, stage in getattr(wrapper, 'stages', {}).items()]
    precision = getattr(wrapper, 'precision', None)
    parts += [f'precision {precision}'] if precision is not None else []
    return ', '.join(parts)
