"""Train the model of a config, or one after another the phases of a chain.

python tools/train.py configs/digits/two_phase.py
python tools/train.py configs/hybrid/supcon_convnext_swin.py --amp --cfg-options img_size=256
bash tools/dist_train.sh configs/hybrid/supcon_convnext_swin.py 8
"""

import argparse
import os

from hybridcls.checks import check_file
from hybridcls.command_line import TRACEBACK_VARIABLE, run_tool


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    from hybridcls.cli.config_options import ConfigOptions

    parser = argparse.ArgumentParser(description='Train a model, or the phases of a chain of configs.')
    parser.add_argument('config', help='config file; one that names `phases` runs them one after another')
    parser.add_argument('--work-dir', help='folder for checkpoints and logs; default: work_dirs/<name of the config>')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from the given checkpoint, or without one from the last whole checkpoint of the '
        'work dir if there is any. A chain goes on by itself; there it allows a phase that was '
        'interrupted to go on with a changed config',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: bfloat16 where the device has it, else float16 with a loss scaler',
    )
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate while training')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by real batch size / auto_scale_lr.base_batch_size',
    )
    parser.add_argument('--no-pin-memory', action='store_true', help='no pinned memory in dataloaders')
    parser.add_argument(
        '--no-persistent-workers', action='store_true', help='end the workers of dataloaders after each epoch'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        metavar='KEY=VALUE',
        help='override keys of the config: a.b.0.c=1, list=1,2 or "list=[(1,2),(3,4)]". For one phase '
        'of a chain phases.0.cfg_options.KEY=VALUE, for all cfg_options.KEY=VALUE',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        help="who started the processes; default: what the config says, 'none' if it says nothing",
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by some launchers')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='run the code in checkpoints that hold some: it may run any command with your rights. Covers all that '
        'the config names (load_from, teachers, phases, members)',
    )
    parser.add_argument('--traceback', action='store_true', help='show where an error was raised')
    args = parser.parse_args(arguments)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.traceback:
        os.environ[TRACEBACK_VARIABLE] = '1'
    return args


def main() -> None:
    """Train."""
    args = parse_args()
    if '::' not in args.config:
        check_file('train', 'config', args.config)  # before the imports that take seconds
    from hybridcls.checkpoint_reading import trust_checkpoints
    from hybridcls.engine import (
        TrainOptions,
        build_runner,
        is_chain,
        load_config,
        prepare_training,
        run_chain,
        run_training,
    )

    if args.trust_checkpoint:
        trust_checkpoints()
    cfg = load_config(args.config, args.cfg_options)
    options = TrainOptions(
        resume=args.resume,
        amp=args.amp,
        validate=not args.no_validate,
        auto_scale_lr=args.auto_scale_lr,
        pin_memory=not args.no_pin_memory,
        persistent_workers=not args.no_persistent_workers,
        launcher=args.launcher,
    )
    if is_chain(cfg):
        run_chain(cfg, options, args.work_dir)
        return
    run_training(build_runner(prepare_training(cfg, options, args.work_dir)))


if __name__ == '__main__':
    run_tool(main)
