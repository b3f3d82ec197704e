"""Turn a config and the command-line options into a Runner that is ready to train or test."""

import os
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional, Union

from mmengine.config import Config

from hybridcls.checks import did_you_mean
from hybridcls.compat.mmengine import bare_model

from .checkpoints.files import check_checkpoint, check_writable, latest_valid_checkpoint
from .config.cache_folders import cache_folders
from .config.change import RECORD, Change, apply, provenance_of, record_of
from .config.checkpoint_config import without_initial_weights
from .config.compilation import check_compilation, compilation, compile_model
from .config.data_defaults import data_defaults
from .config.data_splits import data_splits, open_splits
from .config.dataloaders import check_dataloaders, limit_dataloaders
from .config.distributed import distributed
from .config.fused_optimizer import fused_optimizer
from .config.image_folders import check_image_folders
from .config.label_tables import has_label_tables, label_tables
from .config.layers import ConfigError
from .config.main_head import main_head
from .config.memory_format import channels_last, set_memory_format
from .config.mixed_precision import evaluation_precision, mixed_precision
from .config.num_classes import num_classes
from .config.parts import check_parts
from .config.portable import portable_types
from .config.schedules import (
    check_length,
    fit_to_batches,
    fitted_schedules,
    fractions,
    iterations,
    scaled_lr,
)
from .config.tf32 import switch_tf32, tf32
from .config.timm_streams import check_timm_streams, weights_of_runs
from .config.tree import ABSENT, class_of
from .config.unread_keys import OWN_ENVIRONMENT
from .config.vis_backends import check_vis_backends
from .distillation.distillation_width import distillation_width
from .hooks.batch_check_hook import check_batches
from .hooks.preemption_hook import PreemptionHook
from .runner.console import Bars, ConsoleRunner
from .runner.distributed import decided_by_first, process_count, start_group, start_processes
from .runner.workers import end_workers

__all__ = [
    'STEPS', 'TRAINING_KEYS', 'TrainOptions', 'build_runner', 'choose_work_dir', 'complete', 'prepare_testing',
    'prepare_training', 'run_training',
]  # fmt: skip

# What a training cannot do without.
TRAINING_KEYS = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
# Hooks that every run gets unless its config has its own of that kind.
_DEFAULT_HOOKS = (
    'BatchCheckHook', 'CheckpointMatchHook', 'ClassCountsHook', 'ClassNamesHook', 'ConsoleHook', 'DataReportHook',
    'PreemptionHook', 'PreprocessingVersionHook', 'ProvenanceHook', 'RandomStateHook', 'ResumeHook', 'ShardedRowsHook',
    'ThresholdsHook',
)  # fmt: skip

_RESTARTS = ('TORCHELASTIC_RESTART_COUNT', 'SLURM_RESTART_COUNT')


@dataclass
class TrainOptions:
    """The options of ``tools/train.py`` beside the config, under the same names.

    Args:
        resume (str, optional): ``'auto'`` for the last valid checkpoint of the work dir, or the path of a checkpoint.
            Where a launcher starts the command again, the last one of the work dir comes first.
        amp (bool): Train in mixed precision.
        validate (bool): Evaluate while training.
        auto_scale_lr (bool): Scale the learning rate with the real batch size (key ``auto_scale_lr.base_batch_size``).
        pin_memory (bool): Allow pinned memory in dataloaders.
        persistent_workers (bool): Allow workers to live for several epochs.
        launcher (str, optional): What starts the processes. None leaves it to the config, and there to ``'none'``.
        compile (bool): Compile the streams (key ``env_cfg.compile_streams``).
        record (bool): Record how the training sees its images, for an audit
            (:class:`~hybridcls.engine.hooks.SampleRecordHook`).
    """

    resume: Optional[str] = None
    amp: bool = False
    validate: bool = True
    auto_scale_lr: bool = False
    pin_memory: bool = True
    persistent_workers: bool = True
    launcher: Optional[str] = None
    compile: bool = False
    record: bool = False


def complete(cfg: Config, options: TrainOptions) -> TrainOptions:
    """Check a config for a training and apply ``STEPS``, in place, without access to data, weights, GPU or work dir.

    Returns:
        TrainOptions: ``options`` with a launcher: theirs, or the config's.

    Raises:
        ConfigError: If an option does not fit the config, or two of its values do not fit together.
    """
    _check_keys(cfg, TRAINING_KEYS, 'train')
    check_dataloaders(cfg)
    check_length(cfg)
    options = replace(options, launcher=options.launcher or cfg.get('launcher') or 'none')
    for step, told in STEPS:
        apply(cfg, step, *told(options))
    return options


def prepare_training(
    cfg: Config, options: TrainOptions, work_dir: Optional[str] = None, split_dir: Optional[str] = None
) -> Config:
    """Complete a config from :func:`~hybridcls.engine.config.load_config` for a training, in place.

    Args:
        cfg (Config): What to train.
        options (TrainOptions): How.
        work_dir (str, optional): Wins over ``cfg.work_dir``; without both it is ``work_dirs/<name of the config>``.
        split_dir (str, optional): Where mapped caches are kept, and ``split.csv``, if the images have to be divided
            (:func:`~hybridcls.engine.config.data_splits.data_splits`). Defaults to the work dir.

    Returns:
        Config: ``cfg`` itself, ready for :func:`build_runner`.

    Raises:
        PermissionError: If the work dir cannot be written.
        FileNotFoundError: If a folder of images is not there.
        ValueError: If images that have to be divided are none, of one class, or too few.
        ConfigError: If an option does not fit the config, or two of its values do not fit together.
    """
    options = complete(cfg, options)
    check_compilation(cfg)
    check_parts(cfg)
    apply(cfg, weights_of_runs)
    check_timm_streams(cfg)
    check_vis_backends(cfg)
    choose_work_dir(cfg, work_dir)
    check_writable(cfg.work_dir)
    start_processes(options.launcher or 'none')
    apply(cfg, start_from, options.resume)
    apply(cfg, cache_folders, split_dir or cfg.work_dir)
    _divide_images(cfg, split_dir or cfg.work_dir, options, cfg.get('load_from') if cfg.get('resume') else None)
    _note_decisions(cfg, options.launcher or 'none')
    check_image_folders(cfg)
    apply(cfg, data_defaults, process_count(options.launcher or 'none'))
    apply(cfg, fractions)
    apply(cfg, num_classes)
    apply(cfg, distillation_width)
    return _finish(cfg)


def prepare_testing(
    cfg: Config, checkpoint: Optional[str], options: TrainOptions, work_dir: Optional[str] = None
) -> Config:
    """Complete a config for a test of ``checkpoint``; None for a model whose ``members`` name their checkpoints.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If the file is no checkpoint or missing, or the config has nothing to test on.
    """
    _check_keys(cfg, ('model', 'test_dataloader', 'test_cfg', 'test_evaluator'), 'test')
    if checkpoint is not None:
        check_checkpoint(checkpoint)
    elif not cfg.model.get('members'):
        raise ValueError(
            'test: no checkpoint was given. Name one after the config; only an EnsembleClassifier whose members name '
            'their checkpoints needs none.'
        )
    launcher = options.launcher or cfg.get('launcher') or 'none'
    choose_work_dir(cfg, work_dir)
    check_writable(cfg.work_dir)
    check_dataloaders(cfg)
    check_vis_backends(cfg)
    apply(cfg, distributed, launcher)
    start_processes(launcher)
    apply(cfg, _test_of, checkpoint, options)
    apply(cfg, limit_dataloaders, options.pin_memory, options.persistent_workers)
    apply(cfg, default_hooks)
    apply(cfg, tf32)
    apply(cfg, evaluation_precision)
    check_parts(cfg, is_test=True)
    if checkpoint is not None:
        apply(cfg, without_initial_weights)
    check_timm_streams(cfg)
    apply(cfg, cache_folders, cfg.work_dir)
    _divide_images(cfg, cfg.work_dir, replace(options, launcher=launcher), checkpoint, True)
    check_image_folders(cfg, kinds=('test',))
    apply(cfg, data_defaults, 1, True)
    apply(cfg, num_classes, checkpoint)
    return _finish(cfg)


def _divide_images(
    cfg: Config, folder: str, options: TrainOptions, checkpoint: Optional[str], is_test: bool = False
) -> None:
    """Fill datasets that name only their split; the first process divides the images for all."""
    if open_splits(cfg):
        start_group(cfg, options.launcher or 'none')
        of_training = [] if checkpoint is None else [Path(checkpoint).parent, Path(checkpoint).parent.parent]
        apply(cfg, lambda _: decided_by_first(lambda: list(data_splits(cfg, folder, of_training, is_test))))


def _note_decisions(cfg: Config, launcher: str) -> None:
    """Copy the decisions on labels to the work dir; the first process writes them for all."""
    if has_label_tables(cfg):
        start_group(cfg, launcher)
        apply(cfg, lambda _: decided_by_first(lambda: list(label_tables(cfg))))


def choose_work_dir(cfg: Config, work_dir: Optional[str]) -> str:
    """Set and return ``cfg.work_dir``: the given one, else that of the config, else one named after the config file."""
    given = cfg.get('work_dir', ABSENT)
    chosen = str(work_dir or given or os.path.join('work_dirs', Path(cfg.filename or 'config').stem))
    if given != chosen:
        why = '--work-dir' if work_dir else 'named after the config'
        apply(cfg, lambda _: [Change(('work_dir',), given, chosen, why, '--work-dir', False)])
    return chosen


def start_from(cfg: Config, resume: Optional[str]) -> Iterator[Change]:
    """Plan the start of a training: ``--resume`` with or without a checkpoint, or the config's ``load_from``."""
    if resume not in (None, 'auto') and _was_restarted() and latest_valid_checkpoint(cfg.work_dir) is not None:
        resume = 'auto'  # the named checkpoint was the start of the first attempt
    found = latest_valid_checkpoint(cfg.work_dir) if resume == 'auto' else resume
    if resume is not None:
        if resume != 'auto':
            check_checkpoint(resume)
        # With 'auto' and nothing to go on from this is the first start, and `load_from` holds. (A launcher that
        # restarts a job passes --resume from the beginning.)
        if bool(cfg.get('resume')) != (found is not None):
            yield Change(('resume',), cfg.get('resume', ABSENT), found is not None, '--resume', '--resume', False)
        if found is not None:
            yield Change(('load_from',), cfg.get('load_from', ABSENT), found, '--resume', '--resume')
    elif cfg.get('load_from') and not cfg.get('resume'):
        check_checkpoint(cfg.load_from)


def default_hooks(cfg: Config, record: bool = False) -> Iterator[Change]:
    """Append the default hooks of every run, and that of ``--record``, unless the config has one of that type."""
    from hybridcls.registry import HOOKS

    given = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    kinds = [kind for kind in (class_of('HOOKS', hook) for hook in given) if isinstance(kind, type)]
    missing = [
        dict(type=f'hybridcls.{name}')
        for name in (*_DEFAULT_HOOKS, *(['SampleRecordHook'] if record else []))
        if not any(issubclass(kind, HOOKS.get(name)) for kind in kinds)
    ]
    if missing:
        old = cfg.get('custom_hooks', ABSENT)
        yield Change(('custom_hooks',), old, [*(old or []), *missing], 'hooks of every run', 'every run', False)


def _validation(cfg: Config, options: TrainOptions) -> Iterator[Change]:
    for key in ('val_cfg', 'val_dataloader', 'val_evaluator'):
        if not options.validate and cfg.get(key) is not None:
            yield Change((key,), cfg[key], None, '--no-validate', '--no-validate')


Step = Callable[..., Iterable[Union[Change, str]]]
STEPS: tuple[tuple[Step, Callable[[Any], tuple]], ...] = (
    (distributed, lambda options: (options.launcher,)),
    (_validation, lambda options: (options,)),
    (mixed_precision, lambda options: (options.amp,)),
    (fused_optimizer, lambda options: ()),
    (tf32, lambda options: ()),
    (evaluation_precision, lambda options: ()),
    (compilation, lambda options: (options.compile,)),
    (channels_last, lambda options: ()),
    (scaled_lr, lambda options: (process_count(options.launcher), options.auto_scale_lr)),
    (limit_dataloaders, lambda options: (options.pin_memory, options.persistent_workers)),
    (iterations, lambda options: ()),
    (main_head, lambda options: ()),
    (fractions, lambda options: ()),
    (fitted_schedules, lambda options: ()),
    (default_hooks, lambda options: (options.record,)),
)
"""The steps that complete a config for a training, in order, each with the options that it gets.

Steps that look at the work dir, at images or at a teacher follow in :func:`prepare_training`.
"""


def build_runner(cfg: Config) -> Any:
    """Build the Runner of a completed config: mmengine's, or the one that ``runner_type`` names."""
    from mmengine.registry import RUNNERS

    if (cfg.get('randomness') or {}).get('deterministic'):
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # without it torch refuses cuBLAS on a GPU
    switch_tf32(cfg)
    if 'runner_type' not in cfg:
        return ConsoleRunner.from_cfg(cfg)
    theirs = deepcopy(cfg)
    for key in OWN_ENVIRONMENT:  # FlexibleRunner takes mmengine's alone, where Runner passes over others
        (theirs.get('env_cfg') or {}).pop(key, None)
    runner = RUNNERS.build(theirs)
    if theirs.get('env_cfg') != cfg.get('env_cfg'):
        runner.cfg.env_cfg = deepcopy(cfg.env_cfg)
        runner.dump_config()
    return runner


def run_training(runner: Any) -> None:
    """Train with a Runner of :func:`build_runner`, however few images there are.

    ``runner.train()`` alone ends in an error of mmengine's schedulers where an epoch has no batch at all, or so few
    that the part of an epoch in which the learning rate warms up has none; with one, it stays at its smallest.

    Raises:
        ConfigError: If ``activation_checkpointing`` names a module that is not in the model.
        ValueError: If an epoch has no batch; says how many images there are and which batch size works.
    """
    if isinstance(runner.model, dict):  # FlexibleRunner builds it when it trains
        runner.model = runner.strategy.build_model(runner.model)
    model = bare_model(runner.model)
    _check_checkpointing(runner)
    for told in (set_memory_format(runner.cfg, model), compile_model(runner.cfg, model)):
        if told:
            runner.logger.info(told)
    loader = runner.train_dataloader
    if hasattr(loader, '__len__'):
        check_batches(loader)
        if runner.param_schedulers is not None:
            runner.param_schedulers = fit_to_batches(runner.param_schedulers, len(loader))
    try:
        runner.train()
    finally:
        for hook in runner.hooks:
            if isinstance(hook, PreemptionHook):
                hook.release()
        if Bars.shown is not None:  # the training was interrupted
            Bars.shown.stop()
        end_workers(runner)


def _check_checkpointing(runner: Any) -> None:
    """Raise unless the model has all modules named in ``activation_checkpointing``."""
    asked = runner.cfg.get('activation_checkpointing') or []
    model = bare_model(runner.model)
    known = [name for name, _ in model.named_modules()]
    for name in [asked] if isinstance(asked, str) else asked:
        if name not in known:
            raise ConfigError(
                f'activation_checkpointing: expected names of modules of {type(model).__name__}, got {name!r}.'
                f'{did_you_mean(name, known)} For both streams write model.backbone.with_cp=True.'
            )


def _check_keys(cfg: Config, keys: tuple[str, ...], what: str) -> None:
    for key in keys:
        if cfg.get(key) is None:
            raise ConfigError(
                f'{cfg.filename}: the key {key} is missing, so there is nothing to {what}. Take it from a base config, '
                'as configs/hybrid/ does.'
            )


def _test_of(cfg: Config, checkpoint: Optional[str], options: TrainOptions) -> Iterator[Change]:
    if options.amp and not cfg.test_cfg.get('fp16'):
        yield Change(('test_cfg', 'fp16'), cfg.test_cfg.get('fp16', ABSENT), True, '--amp', '--amp')
    for key, value in (('load_from', checkpoint), ('resume', False)):
        if cfg.get(key, ABSENT) != value:
            yield Change((key,), cfg.get(key, ABSENT), value, 'the checkpoint to test', 'test', False)


def _finish(cfg: Config) -> Config:
    """Record the filled values in the config, with type names that other tools find too."""
    apply(cfg, portable_types)
    cfg[RECORD] = record_of(cfg)
    provenance_of(cfg).origins.pop((RECORD,), None)
    return cfg


def _was_restarted() -> bool:
    """Return whether torchrun (``--max-restarts``) or Slurm (a requeue) restarted this command."""
    return any(os.environ.get(name, '0') not in ('', '0') for name in _RESTARTS)
