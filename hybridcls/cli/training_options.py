"""The options of a training that change its config."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from .config_options import ConfigOptions

if TYPE_CHECKING:
    from hybridcls.engine import TrainOptions

__all__ = ['add_training_options', 'training_options']


def add_training_options(parser: ArgumentParser) -> None:
    """Add them to a command line, with the names that OpenMMLab's tools have."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        metavar='KEY=VALUE',
        help='override keys of the config: a.b.0.c=1, list=1,2 or "list=[(1,2),(3,4)]". For one phase of a chain '
        'phases.0.cfg_options.KEY=VALUE, for all cfg_options.KEY=VALUE',
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
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        help="who started the processes; default: what the config says, 'none' if it says nothing",
    )


def training_options(args: Namespace) -> 'TrainOptions':
    """Read what was given."""
    from hybridcls.engine import TrainOptions

    return TrainOptions(
        amp=args.amp,
        validate=not args.no_validate,
        auto_scale_lr=args.auto_scale_lr,
        pin_memory=not args.no_pin_memory,
        persistent_workers=not args.no_persistent_workers,
        launcher=args.launcher,
    )
