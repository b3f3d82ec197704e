"""Train the model of a config, or the phases of a chain one after the other.

`hybridcls list recipes` lists the shipped configs. Checkpoints and logs are written to --work-dir.
"""

import os
import shlex
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from .early_weights import check_weights_early
from .find_config import find_config
from .json_output import print_json, stdout_for_json, tell
from .shared_options import add_shared_options, check_shared_paths, load_with_options
from .training_options import add_process_options, add_training_options, apply_process_options, training_options

if TYPE_CHECKING:
    from mmengine.config import Config

    from hybridcls.engine import TrainOptions
    from hybridcls.engine.runner.outcome import Outcome

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'train the model of a config, or a chain of training phases'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        'config', help='path of a config, or NAME or hybridcls::NAME of a shipped one, such as finetune/full'
    )
    parser.add_argument('--work-dir', help='folder for checkpoints and logs; default: work_dirs/<name of the config>')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue an interrupted training from CHECKPOINT (a file or a work dir); default without CHECKPOINT: '
        'the latest valid checkpoint of --work-dir, if it has one. A chain always continues; with this option, an '
        'interrupted phase may continue with a changed config',
    )
    parser.add_argument(
        '--force',
        action='store_true',
        help='train in a work dir that already holds a training; its files are moved aside',
    )
    add_shared_options(parser)
    add_training_options(parser)
    add_process_options(parser)
    parser.set_defaults(overwrite=False)


def run(args: Namespace) -> int:
    """Train, and report what the training left behind."""
    args.config = find_config('train', args.config)  # before the imports that take seconds
    check_shared_paths('train', args)
    check_weights_early('train', args)
    began = time.monotonic()
    with stdout_for_json(args.json):
        apply_process_options(args)
        try:
            trained, dumped = _train(args)
            result = dict(command='train', **trained, seconds=round(time.monotonic() - began, 3))
        except KeyboardInterrupt:
            tell('\nTo continue, type the same command with --resume.', sys.stderr)
            raise
    if args.json:
        print_json(result)
    else:
        folder, config = shlex.quote(result['work_dir']), _config_option(dumped)
        tell(f'Next: hybridcls predict {folder} IMAGES{config}\n      hybridcls test {folder}{config}')
    return 0


def _config_option(dumped: Path) -> str:
    """Return the option that later commands need: the imports in a checkpoint are not followed, those of a file are.

    The dumped config is named, not the one that was given: it has the values of the options too.
    """
    if not dumped.is_file() or not any(
        line.startswith('custom_imports') for line in dumped.read_text(encoding='utf8').splitlines()
    ):
        return ''
    return f' --config {shlex.quote(str(dumped))}'


def _train(args: Namespace) -> tuple[dict[str, Any], Path]:
    """Train; return what ``--json`` says, and where the config of the (last) training was dumped."""
    from hybridcls.engine import build_runner, in_folds, is_chain, prepare_training, run_chain, run_training
    from hybridcls.engine.phases.plan import read_phases
    from hybridcls.engine.runner.outcome import Outcome, outcome_of
    from hybridcls.engine.training import choose_work_dir

    cfg = in_folds(load_with_options(args))
    options = training_options(args, _checkpoint_to_resume(args.resume))
    folder = Path(choose_work_dir(cfg, args.work_dir))
    _leave_earlier_training(cfg, folder, options, args)
    if is_chain(cfg):
        phases = []
        for number, record in enumerate(run_chain(cfg, options, args.work_dir), 1):
            outcome = Outcome(record.checkpoints, record.metrics, record.no_best)
            result = _result(folder / f'{number}_{record.name}', outcome)
            phases.append(dict(name=record.name, **result, seconds=record.seconds))
        last = {**phases[-1], 'work_dir': str(folder), 'phases': phases}
        phase = read_phases(cfg)[-1]
        dumped = folder / phase.folder_name / Path(phase.config).name
        return dict(config=args.config, **{key: last[key] for key in last if key not in ('name', 'seconds')}), dumped
    runner = build_runner(prepare_training(cfg, options, args.work_dir))
    run_training(runner)
    dumped = folder / Path(cfg.filename).name
    return dict(config=args.config, **_result(folder, outcome_of(runner, folder))), dumped


def _result(folder: Path, outcome: 'Outcome') -> dict[str, Any]:
    """What ``--json`` says of a training."""
    files = {kind: str(folder / path) for kind, path in outcome.checkpoints.items()}
    metrics: dict[str, dict[str, float]] = dict(val={}, best={}, test={})
    for name, value in outcome.metrics.items():
        kind, _, rest = name.partition('/')
        metrics[kind][rest] = value
    metrics['best'].pop('score', None)  # it is there by the name of its metric
    return dict(
        work_dir=str(folder), checkpoint=files.get('best') or files.get('last'), checkpoints=files, metrics=metrics
    )


def _checkpoint_to_resume(path: Optional[str]) -> Optional[str]:
    """Choose the checkpoint of ``--resume``: of a work dir the latest one."""
    if path in (None, 'auto') or not os.path.isdir(str(path)) or str(path).rstrip(os.sep).endswith('.pth'):
        return path
    from hybridcls.engine.checkpoints import latest_valid_checkpoint

    found = latest_valid_checkpoint(str(path))
    if found is None:
        raise FileNotFoundError(f'train: expected --resume to name a checkpoint or a work dir with one, got {path!r}.')
    tell(f'Resuming from {found}, the last checkpoint of {path}.')
    return found


def _leave_earlier_training(cfg: 'Config', folder: Path, options: 'TrainOptions', args: Namespace) -> None:
    """Let a training that begins, and does not go on, not mix with an earlier one of its work dir."""
    from hybridcls.engine import is_chain
    from hybridcls.engine.checkpoints.used_work_dir import check_unused, files_of_training, set_aside
    from hybridcls.engine.config.tree import leaves_in
    from hybridcls.engine.phases.plan import read_phases
    from hybridcls.engine.runner.distributed import decided_by_first, start_group, start_processes

    if is_chain(cfg):  # it goes on by itself, and refuses the folders of another one
        if not args.force:
            return
        files = [path for phase in read_phases(cfg) if (path := folder / phase.folder_name).exists()]
        files += folder.glob('split*.csv')
    else:
        resume = options.resume
        goes_on = (
            resume == 'auto' or cfg.get('resume') or (resume and Path(resume).resolve().parent == folder.resolve())
        )
        if goes_on:
            return
        used = {Path(value).resolve() for _, value in leaves_in(cfg) if isinstance(value, str)}  # load_from, a teacher
        files = [path for path in files_of_training(folder) if path.resolve() not in used]
    if not files:
        return
    launcher = options.launcher or cfg.get('launcher') or 'none'
    start_processes(launcher)
    start_group(cfg, launcher)

    def decide() -> None:
        if not (args.force or args.overwrite):
            check_unused(folder)
        moved = set_aside(folder, files)
        tell(f'The earlier training in {folder} was moved to {moved}.')

    decided_by_first(decide)
