"""Train the model of a config, or the phases of a chain in turn.

The config is a path, hybridcls::NAME, or the NAME of a shipped one (`hybridcls list recipes`). Checkpoints and logs go
to --work-dir, by default work_dirs/<last part of the name>.
"""

import time
from argparse import ArgumentParser, Namespace
from typing import Any

from .find_config import find_config
from .json_output import print_json, stdout_for_json
from .shared_options import add_shared_options, load_with_options
from .training_options import add_process_options, add_training_options, apply_process_options, training_options

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'train a model, or the phases of a chain of configs'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument('config', help='config: a path, hybridcls::NAME, or the NAME of a shipped one: finetune/full')
    parser.add_argument('--work-dir', help='folder for checkpoints and logs; default: work_dirs/<name of the config>')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from the given checkpoint or work dir, or without one from the latest valid checkpoint of the '
        'work dir, if any. A chain always resumes; there, the option allows an interrupted phase to resume with a '
        'changed config',
    )
    parser.add_argument('--force', action='store_true', help='train again in a work dir that holds a training')
    add_shared_options(parser)
    add_training_options(parser)
    add_process_options(parser)


def run(args: Namespace) -> int:
    """Train, and report what the training left behind."""
    args.config = find_config('train', args.config)  # before the imports that take seconds
    apply_process_options(args)
    began = time.monotonic()
    with stdout_for_json(args.json):
        result = _train(args)
    if args.json:
        print_json(dict(command='train', **result, seconds=round(time.monotonic() - began, 3)))
    return 0


def _train(args: Namespace) -> dict[str, Any]:
    from hybridcls.checkpoint_reading import trust_checkpoints
    from hybridcls.engine import build_runner, is_chain, prepare_training, run_chain, run_training

    if args.trust_checkpoint:
        trust_checkpoints()
    cfg = load_with_options('train', args)
    options = training_options(args, args.resume)
    if is_chain(cfg):
        records = run_chain(cfg, options, args.work_dir)
        return dict(config=args.config, work_dir=cfg.work_dir, phases=[vars(record) for record in records])
    runner = build_runner(prepare_training(cfg, options, args.work_dir))
    run_training(runner)
    return dict(config=args.config, work_dir=cfg.work_dir)
