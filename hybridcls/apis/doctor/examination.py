"""Run all checks of the doctor: on the machine, and on a config with its data and first steps, or on data alone."""

import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Optional

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from hybridcls.compat.mmengine import bare_model
from hybridcls.compat.mmengine.accumulation import accumulation_counts, set_accumulation_counts
from hybridcls.datasets import ImageFolder
from hybridcls.datasets.annotation_file import TABLES
from hybridcls.engine.checkpoints.weight_transfer import WeightMismatchError
from hybridcls.engine.config import apply, load_config
from hybridcls.engine.config.data_defaults import data_defaults
from hybridcls.engine.config.data_splits import data_splits
from hybridcls.engine.config.loading import is_chain
from hybridcls.engine.config.num_classes import num_classes
from hybridcls.engine.config.schedules import fractions
from hybridcls.engine.config.tree import is_a, walk
from hybridcls.engine.phases.plan import read_phases
from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.engine.training import TrainOptions, choose_work_dir, complete, prepare_training
from hybridcls.replay.random_state import isolated_randomness

from .banks import check_banks
from .batch_memory import check_memory
from .best_rules import check_rules
from .built_model import check_model
from .classes import check_classes
from .data_parts import SPLITS, build_parts
from .duplicates import check_duplicates
from .environment import available_memory, check_environment
from .finding import NOTE, PROBLEM, Finding, of_error
from .folders import check_folders
from .image_scan import MOST_IMAGES, scan_images
from .images import check_images
from .learning_rate import rate_curve, rate_findings
from .loader_speed import check_speed, endless
from .samples import check_batches_of_labels, check_colors, check_samples
from .schedule import check_schedule
from .settings import check_keys, check_settings
from .subject import Subject
from .train_step import TrainStep, pick, size_of
from .training_images import sheet_of_batches
from .trial import HeardWarnings, quiet, with_runner

__all__ = ['Examination', 'Wishes', 'examine', 'examine_data']

_RATE_SECONDS = 120.0
_LENIENT: dict[str, Any] = dict(empty_classes='warn')  # where a class without images is told, all others are looked at
_SHEET_BATCHES = 4
_BYTES_A_PARAMETER = 16  # weight, gradient and two moments of Adam, in float32


@dataclass(frozen=True)
class Wishes:
    """The options of an examination.

    Args:
        images (int): At most so many image files. Defaults to 10,000.
        trial (bool): Build the model and train a step. Defaults to True.
        find_rate (bool): Look for a learning rate. Defaults to False.
        sheet (bool): Draw a contact sheet. Defaults to False.
    """

    images: int = MOST_IMAGES
    trial: bool = True
    find_rate: bool = False
    sheet: bool = False


@dataclass
class Examination:
    """The results of an examination.

    Args:
        findings (list[Finding]): Problems first.
        facts (dict[str, Any]): Numbers: images, parameters, memory, speed, learning_rate; of a chain by phase.
        sheet (bytes, optional): A PNG file.
    """

    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    sheet: Optional[bytes] = None

    def add(self, findings: Iterable[Finding], phase: str = '') -> None:
        """Add findings, each once."""
        for one in findings:
            one = replace(one, phase=phase)
            if not any(one.what == other.what and one.level == other.level != NOTE for other in self.findings):
                self.findings.append(one)


def examine(
    load: Callable[[], Config], options: Optional[TrainOptions] = None, wishes: Wishes = Wishes(), work_dir: str = ''
) -> Examination:
    """Examine a config, or each phase of a chain, without side effects on files or random state.

    Args:
        load (Callable): Returns the config; what it raises is a finding.
        options (TrainOptions, optional): Those of the training. Defaults to none.
        wishes (Wishes): What is looked at.
        work_dir (str): Of the training: a split of images that is kept there is used. Defaults to that of the config.
    """
    found, options = Examination(), options or TrainOptions()
    with _without_trace() as folder:
        found.add(check_environment())
        try:
            cfg = load()
            phases = read_phases(cfg) if is_chain(cfg) else []
        except Exception as error:  # a config is code
            found.add([of_error(error, 'config')])
            return found
        if not phases:
            _examine_one(cfg, options, wishes, folder, work_dir, found)
        for phase in phases:
            try:
                own = load_config(phase.config, phase.options)
            except Exception as error:
                found.add([of_error(error, 'config')], phase.name)
                continue
            _examine_one(own, options, wishes, folder, work_dir or cfg.get('work_dir') or '', found, phase.name)
    return found


def examine_data(root: str, wishes: Wishes = Wishes(), img_size: Optional[int] = None) -> Examination:
    """Examine a folder of images or a table, read as the ``data_root`` of the shipped recipes.

    Args:
        root (str): Class folders, folders ``train`` and ``val`` of such, or a ``.csv``.
        wishes (Wishes): What is looked at.
        img_size (int, optional): That the images will have. Defaults to None.
    """
    found = Examination()
    with _without_trace() as folder:
        found.add(check_environment())
        failed: list[Finding] = []
        several: list[dict[str, Any]] = [dict(multi_label=True)] if root.lower().endswith(TABLES) else []
        for more in ({}, *several, _LENIENT):
            dataset = dict(type='ImageFolder', data_root=root, **more)
            loaders = {
                f'{split}_dataloader': dict(dataset=dict(dataset, split=split, test_mode=split != 'train'))
                for split in SPLITS
            }
            cfg = Config(dict(loaders, img_size=img_size))
            try:
                apply(cfg, data_splits, folder)
                failed = failed if more is _LENIENT else []
                break
            except Exception as error:  # its sentence is a finding
                failed.append(of_error(error, '--data', cfg))
        found.add(failed[:1])
        subject = Subject(cfg, folder)
        _look_at_data(subject, wishes, found)
        found.facts.update(subject.facts)
    return found


@contextmanager
def _without_trace() -> Iterator[str]:
    """Yield a temporary folder; random state, loggers and torch's settings are restored afterwards."""
    backends = torch.backends.cudnn
    before = backends.benchmark, backends.deterministic, torch.are_deterministic_algorithms_enabled()
    threads, environment = torch.get_num_threads(), dict(os.environ)
    folder = tempfile.mkdtemp(prefix='hybridcls_doctor_')
    try:
        with isolated_globals(), isolated_randomness():
            yield folder
    finally:
        backends.benchmark, backends.deterministic = before[:2]
        torch.use_deterministic_algorithms(before[2])
        torch.set_num_threads(threads)
        os.environ.clear()
        os.environ.update(environment)
        shutil.rmtree(folder, ignore_errors=True)


def _examine_one(
    cfg: Config, options: TrainOptions, wishes: Wishes, folder: str, work_dir: str, found: Examination, phase: str = ''
) -> None:
    subject = Subject(cfg, os.path.join(folder, phase))
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'hybridcls'):
        found.add(_prepare(subject, options, work_dir), phase)
        _look_at_data(subject, wishes, found, phase)
        for check in (check_schedule, check_settings):
            found.add(_guarded(check, subject), phase)
        told = {one.where for one in found.findings if one.level == PROBLEM and one.phase == phase}
        # What is told of a key explains what is told of the part that has it.
        found.add([one for one in _guarded(check_keys, subject) if not _is_told(one.where, told)], phase)
        # Where the images do not come out of the pipeline, the trial would say that again, from within a worker.
        has_images = 'train_dataloader.dataset.pipeline' not in told
        if subject.is_complete and wishes.trial and has_images:
            found.add(_try(subject, wishes, found), phase)
    found.facts.update({phase: subject.facts} if phase else subject.facts)


def _is_told(where: str, told: Collection[str]) -> bool:
    return any(one == where or one.startswith(f'{where}.') for one in told)


def _prepare(subject: Subject, options: TrainOptions, work_dir: str) -> Iterator[Finding]:
    """Complete the config as for a training; if a step fails, keep what was completed before."""
    cfg, folder = subject.cfg, subject.work_dir
    os.makedirs(folder, exist_ok=True)
    own = work_dir or choose_work_dir(deepcopy(cfg), None)
    if os.path.isdir(own):  # an earlier start has divided the images
        for name in os.listdir(own):
            if name.startswith('split') and name.endswith('.csv'):
                shutil.copy(os.path.join(own, name), folder)
    alone = replace(options, launcher='none')
    for is_lenient in (False, True):
        whole = deepcopy(cfg)
        for _, node in walk(whole) if is_lenient else ():
            if isinstance(node, dict) and is_a('DATASETS', node, ImageFolder):
                node.update(_LENIENT)
        try:
            with quiet():
                subject.cfg = prepare_training(whole, alone, folder)
            subject.is_complete = True
            return
        except Exception as error:  # of parts of any package
            if not is_lenient:
                yield of_error(error, 'config', cfg)
    subject.cfg = cfg
    steps: list[Callable[[], Any]] = [partial(complete, cfg, alone), partial(apply, cfg, data_splits, folder)]
    steps += [partial(apply, cfg, one) for one in (data_defaults, fractions, num_classes)]
    for step in steps:
        try:
            with quiet():
                step()
        except Exception:  # told above, or follows from it
            continue


def _look_at_data(subject: Subject, wishes: Wishes, found: Examination, phase: str = '') -> None:
    with quiet():
        found.add(build_parts(subject), phase)
    subject.scan = scan_images(list(subject.parts.values()), wishes.images)
    subject.facts['images'] = dict(
        found=subject.scan.found, read=len(subject.scan.looks), seconds=round(subject.scan.seconds, 2),
        splits={split: len(part.labels) or len(part.paths) for split, part in subject.parts.items()},
    )  # fmt: skip
    for check in (check_folders, check_images, check_duplicates, check_classes):
        found.add(_guarded(check, subject), phase)
    if 'model' in subject.cfg:
        found.add(_guarded(check_banks, subject), phase)
        found.add(_guarded(check_samples, subject), phase)


def _guarded(check: Callable[..., Iterable[Finding]], *args: Any) -> list[Finding]:
    """Return the findings of a check; a check that fails becomes a finding, and the others continue."""
    findings: list[Finding] = []
    try:
        with quiet():
            findings.extend(check(*args))
    except Exception as error:  # parts of any package may raise any error
        findings.append(of_error(error, check.__name__.strip('_').removeprefix('check_')))
    return findings


def _try(subject: Subject, wishes: Wishes, found: Examination) -> Iterator[Finding]:
    """Prepare a training up to its first step, and check model, batch, memory and speed."""
    needed, free = _least_memory(subject), available_memory()
    if needed > free > 0:
        yield Finding(
            PROBLEM, 'model',
            f'weights, gradients and optimizer take {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} are free: no step '
            'was tried.',
            'a smaller model, or a machine with more memory',
        )  # fmt: skip
        return
    findings: list[Finding] = []
    heard = HeardWarnings()
    cfg = deepcopy(subject.cfg)
    cfg.work_dir = subject.work_dir
    try:
        with quiet():
            with_runner(cfg, lambda runner: _work(subject, runner, wishes, found, findings), heard)
    except Exception as error:  # parts of any package may raise any error
        where = 'load_from' if isinstance(error, WeightMismatchError) else 'training'
        findings.append(of_error(error, where, cfg))
    yield from findings
    yield from heard.findings()


def _work(subject: Subject, runner: Any, wishes: Wishes, found: Examination, findings: list[Finding]) -> None:
    """Check everything in a Runner that is ready to train."""
    loader, model = runner.train_dataloader, bare_model(runner.model)
    start = deepcopy((model.state_dict(), runner.optim_wrapper.state_dict())) if wishes.find_rate else ({}, {})
    batch_size = getattr(loader, 'batch_size', None) or getattr(loader.batch_sampler, 'batch_size', 1)
    findings += _guarded(check_model, subject, runner, batch_size)
    findings += _guarded(check_rules, subject, runner)
    findings += _guarded(check_batches_of_labels, subject, loader)
    findings += _guarded(check_colors, subject, model, subject.work_dir)
    batches = []
    for data in loader:
        batches.append(data)
        if len(batches) == (_SHEET_BATCHES if wishes.sheet else 1):
            break
    if wishes.sheet and found.sheet is None:
        classes = subject.parts['train'].classes if 'train' in subject.parts else ()
        found.sheet = sheet_of_batches(batches, model, classes)
    TrainStep(runner)(pick(batches[0], range(min(2, size_of(batches[0])))))  # what it raises is a finding
    findings += _guarded(_validate, runner)
    findings += _guarded(check_memory, subject, runner, batches[0], batch_size)
    findings += _guarded(check_speed, subject, loader)
    if wishes.find_rate:
        model.load_state_dict(start[0])  # the steps above were trained
        runner.optim_wrapper.load_state_dict(start[1])
        findings += _guarded(_find_rate, subject, runner, batch_size)


def _validate(runner: Any) -> Iterator[Finding]:
    """Predict some validation images."""
    loop = runner.val_loop
    if loop is None or not hasattr(loop, 'dataloader'):
        return
    data = next(iter(loop.dataloader))
    model = runner.model
    model.eval()
    with torch.no_grad():
        outputs = model.val_step(pick(data, range(min(4, size_of(data)))))
    for metric in loop.evaluator.metrics:
        try:
            metric.process(data, [one.to_dict() if hasattr(one, 'to_dict') else one for one in outputs])
        except Exception as error:
            yield of_error(error, f'val_evaluator: {type(metric).__name__}')
        finally:
            metric.results.clear()


def _find_rate(subject: Subject, runner: Any, batch_size: int) -> Iterator[Finding]:
    rate = subject.get('optim_wrapper.optimizer.lr')
    if not isinstance(rate, (int, float)) or not hasattr(runner.optim_wrapper, 'optimizer'):
        yield Finding(NOTE, 'optim_wrapper', '--lr needs one optimizer with a key lr, and there is none.')
        return
    wrapper = runner.optim_wrapper
    per_update = accumulation_counts(wrapper).per_update
    each = subject.facts.get('step_seconds_an_image', 0.0) * batch_size * per_update
    steps = 100 if not each else int(max(20, min(100, _RATE_SECONDS / each)))
    wrapper.zero_grad()  # of what was accumulated before
    set_accumulation_counts(wrapper, 0, steps * per_update)  # the training itself may be shorter
    batches = endless(runner.train_dataloader)
    curve = rate_curve(TrainStep(runner), wrapper, batches, rate, steps, accumulated=per_update)
    subject.facts['learning_rate'] = dict(
        config=rate,
        suggested=curve.suggested,
        between=curve.between,
        diverges=curve.diverges,
        rates=curve.rates,
        losses=curve.losses,
    )
    yield from rate_findings(curve, rate)


def _least_memory(subject: Subject) -> int:
    """Return a lower bound of the model's memory in bytes, from its shapes."""
    from hybridcls.registry import MODELS

    model = deepcopy(subject.cfg.model)
    from hybridcls.engine.config.checkpoint_config import without_initial_weights

    shapes = deepcopy(subject.cfg)
    try:
        with quiet(), torch.device('meta'):
            apply(shapes, without_initial_weights)
            model = MODELS.build(deepcopy(shapes.model))
    except Exception:  # told where it is built in earnest
        return 0
    every = sum(one.numel() for one in model.parameters())
    trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
    return 4 * (every - trained) + _BYTES_A_PARAMETER * trained
