"""From a config and the options of the command line to a Runner that is ready to train or test."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config

from hybridcls.checks import check_number

from .checkpoint_files import check_checkpoint, check_writable, newest_whole_checkpoint
from .data_folders import check_data_folders, share_class_names
from .dataloader_defaults import check_functions, dataloaders_of
from .distributed import prepare_distributed
from .iteration_training import count_iterations
from .mixed_precision import use_mixed_precision
from .said_once import classifying_head
from .schedule_fit import fit_schedules
from .teacher_model import add_distillation_projection

__all__ = ['TrainOptions', 'prepare_training', 'prepare_testing', 'infer_num_classes', 'build_runner']

# Hooks that every run gets unless its config has its own of that kind.
_STANDING_HOOKS = (
    'BatchCheckHook',
    'CheckpointMatchHook',
    'PreemptionHook',
    'RandomStateHook',
    'ResumeHook',
    'ShardedRowsHook',
)

_RESTARTS = ('TORCHELASTIC_RESTART_COUNT', 'SLURM_RESTART_COUNT')


@dataclass
class TrainOptions:
    """What ``tools/train.py`` may be told beside the config; the names are those of its options.

    Args:
        resume (str, optional): ``'auto'`` for the last whole checkpoint of the work dir, or the path of a checkpoint.
            Where a launcher starts the command again, the last one of the work dir comes first.
        amp (bool): Train in mixed precision.
        validate (bool): Evaluate while training.
        auto_scale_lr (bool): Scale the learning rate with the real batch size (key ``auto_scale_lr.base_batch_size``).
        pin_memory (bool): Allow pinned memory in dataloaders.
        persistent_workers (bool): Allow workers to live for several epochs.
        launcher (str): Who starts the processes.
    """

    resume: Optional[str] = None
    amp: bool = False
    validate: bool = True
    auto_scale_lr: bool = False
    pin_memory: bool = True
    persistent_workers: bool = True
    launcher: str = 'none'


def prepare_training(cfg: Config, options: TrainOptions, work_dir: Optional[str] = None) -> Config:
    """Apply the options to a config from :func:`~hybridcls.engine.config.load_config`, in place.

    Args:
        cfg (Config): What to train.
        options (TrainOptions): How.
        work_dir (str, optional): Wins over ``cfg.work_dir``; without both it is ``work_dirs/<name of the config>``.

    Returns:
        Config: ``cfg`` itself, ready for :func:`build_runner`.

    Raises:
        PermissionError: If the work dir cannot be written.
        FileNotFoundError: If a folder of images is not there.
        ValueError: If an option does not fit the config.
    """
    for key in ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'):
        if cfg.get(key) is None:
            raise ValueError(
                f'{cfg.filename}: the key {key} is missing, so there is nothing to train. Take it from a '
                'base config, as configs/hybrid/ does.'
            )
    choose_work_dir(cfg, work_dir)
    check_writable(cfg.work_dir)
    prepare_distributed(cfg, options.launcher)
    if not options.validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if options.amp:
        use_mixed_precision(cfg)
    if options.auto_scale_lr:
        scale = cfg.get('auto_scale_lr')
        if not scale or 'base_batch_size' not in scale:
            raise ValueError(
                '--auto-scale-lr: the config does not say for which batch size its learning rate is '
                'meant; add auto_scale_lr = dict(base_batch_size=...).'
            )
        scale['enable'] = True
    _limit_dataloaders(cfg, options)
    count_iterations(cfg)
    fit_schedules(cfg)
    _choose_start(cfg, options)
    add_standing_hooks(cfg)
    check_data_folders(cfg)
    share_class_names(cfg)
    infer_num_classes(cfg)
    add_distillation_projection(cfg)
    return cfg


def prepare_testing(
    cfg: Config, checkpoint: Optional[str], options: TrainOptions, work_dir: Optional[str] = None
) -> Config:
    """The same for a test of ``checkpoint``; None is for a model whose ``members`` name their checkpoints.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If the file is no checkpoint or missing, or the config has nothing to test on.
    """
    for key in ('model', 'test_dataloader', 'test_cfg', 'test_evaluator'):
        if cfg.get(key) is None:
            raise ValueError(f'{cfg.filename}: the key {key} is missing, so there is nothing to test.')
    if checkpoint is not None:
        check_checkpoint(checkpoint)
    elif not cfg.model.get('members'):
        raise ValueError(
            'test: no checkpoint was given. Name one after the config; only an EnsembleClassifier, whose '
            'members name theirs, needs none.'
        )
    choose_work_dir(cfg, work_dir)
    check_writable(cfg.work_dir)
    prepare_distributed(cfg, options.launcher)
    if options.amp:
        cfg.test_cfg.fp16 = True
    _limit_dataloaders(cfg, options)
    cfg.load_from, cfg.resume = checkpoint, False
    add_standing_hooks(cfg)
    check_data_folders(cfg, kinds=('test',))
    share_class_names(cfg)
    infer_num_classes(cfg)
    return cfg


def choose_work_dir(cfg: Config, work_dir: Optional[str]) -> str:
    """Set ``cfg.work_dir``: as given, else as the config says, else after the config's file; and return it."""
    if work_dir is None:
        work_dir = cfg.get('work_dir') or os.path.join('work_dirs', Path(cfg.filename or 'config').stem)
    cfg.work_dir = str(work_dir)
    return cfg.work_dir


def infer_num_classes(cfg: Config) -> None:
    """Count the classes of the training data for a classifying head whose ``num_classes`` nobody said.

    The dataset is built only then: with a said number nothing is read here.

    Raises:
        ValueError: If the dataset does not know its classes either.
    """
    head = classifying_head(cfg)
    if head is None or head.get('num_classes') is not None:
        return
    advice = 'Say it once: num_classes = ... at the top level of the config.'
    dataset_cfg = (cfg.get('train_dataloader') or {}).get('dataset')
    if dataset_cfg is None:
        raise ValueError(f'{head["type"]}: num_classes is not said, and there is no training data to count. {advice}')
    from hybridcls.registry import DATASETS

    with DATASETS.switch_scope_and_registry('hybridcls') as registry:  # transforms in it are found in this scope too
        dataset = registry.build(dataset_cfg)
        if hasattr(dataset, 'full_init'):
            dataset.full_init()
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    if not classes:
        raise ValueError(
            f'{head["type"]}: num_classes is not said, and the training data ({dataset_cfg["type"]}) does '
            f'not name its classes. {advice}'
        )
    head['num_classes'] = len(classes)


def build_runner(cfg: Config) -> Any:
    """Build the Runner of a prepared config: mmengine's, or the one that ``runner_type`` names."""
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def add_standing_hooks(cfg: Config) -> None:
    """Append the hooks that every run has, unless the config already has one of that type."""
    given = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    types = {str(hook.get('type')).rsplit('.', 1)[-1] for hook in given if isinstance(hook, dict)}
    missing = [dict(type=f'hybridcls.{name}') for name in _STANDING_HOOKS if name not in types]
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), *missing]


def _limit_dataloaders(cfg: Config, options: TrainOptions) -> None:
    for name, dataloader in dataloaders_of(cfg):
        check_functions(name, dataloader)
        if dataloader.get('batch_size') is not None:
            check_number(name, 'batch_size', dataloader['batch_size'], 1, integer=True)
        if not options.pin_memory:
            dataloader['pin_memory'] = False
        if not options.persistent_workers:
            dataloader['persistent_workers'] = False


def _choose_start(cfg: Config, options: TrainOptions) -> None:
    resume = options.resume
    if resume not in (None, 'auto') and _was_restarted() and newest_whole_checkpoint(cfg.work_dir) is not None:
        resume = 'auto'  # the named checkpoint was the start of the first attempt
    if resume == 'auto':
        found = newest_whole_checkpoint(cfg.work_dir)
        # Nothing to go on from: this is the first start, and `load_from` holds. (A launcher that restarts a job passes
        # --resume from the beginning.)
        cfg.resume = found is not None
        if found is not None:
            cfg.load_from = found
    elif resume is not None:
        check_checkpoint(resume)
        cfg.resume, cfg.load_from = True, resume
    elif cfg.get('load_from') and not cfg.get('resume'):
        check_checkpoint(cfg.load_from)


def _was_restarted() -> bool:
    """Whether torchrun (``--max-restarts``) or Slurm (a requeue) has started this command before."""
    return any(os.environ.get(name, '0') not in ('', '0') for name in _RESTARTS)
