"""The options that several subcommands share, with OpenMMLab's names."""

import os
import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Optional

from .config_options import ConfigOptions
from .device import add_device_option, hide_gpus, use_device
from .quick_imports import quick_imports

if TYPE_CHECKING:
    from hybridcls.engine import TrainOptions

__all__ = ['add_config_options', 'add_process_options', 'add_training_options', 'apply_process_options',
           'training_options']  # fmt: skip


def add_config_options(parser: ArgumentParser, about_phases: str = '') -> None:
    """Add the options that change the config of a training or a test."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        metavar='KEY=VALUE',
        help=f'set keys of the config: a.b.0.c=1, list=1,2 or "list=[(1,2),(3,4)]"{about_phases}',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='use mixed precision: bfloat16 if the device supports it, else float16 with a loss scaler',
    )
    parser.add_argument('--no-pin-memory', action='store_true', help='do not pin the memory of dataloaders')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        help='how the processes were started; default: the launcher of the config, or else none',
    )


def add_training_options(parser: ArgumentParser) -> None:
    """Add the options that change the config of a training."""
    add_config_options(
        parser,
        '. In a chain: phases.0.cfg_options.KEY=VALUE for one phase, cfg_options.KEY=VALUE for all of them',
    )
    parser.add_argument(
        '--compile', action='store_true', help='compile the streams with torch.compile (key env_cfg.compile_streams)'
    )
    parser.add_argument('--no-validate', action='store_true', help='skip the validation during the training')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='multiply the learning rate by the actual batch size / auto_scale_lr.base_batch_size',
    )
    parser.add_argument(
        '--record',
        action='store_true',
        help='record the loss and the margin of every training image, for `hybridcls audit` (SampleRecordHook)',
    )
    parser.add_argument(
        '--no-persistent-workers', action='store_true', help='restart the workers of dataloaders in each epoch'
    )


def training_options(args: Namespace, resume: Optional[str] = None) -> 'TrainOptions':
    """Read the options that change the config."""
    from hybridcls.engine import TrainOptions

    return TrainOptions(
        resume=resume,
        amp=args.amp,
        validate=not args.no_validate,
        auto_scale_lr=args.auto_scale_lr,
        pin_memory=not args.no_pin_memory,
        persistent_workers=not args.no_persistent_workers,
        launcher=args.launcher,
        compile=args.compile,
        record=args.record,
    )


def add_process_options(parser: ArgumentParser) -> None:
    """Add the options of a process that trains or tests."""
    add_device_option(parser)
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help='rank of the process on its machine; some launchers set it',
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='allow checkpoints to run the code that they contain; it may run any command with your rights. Applies '
        'to all checkpoints of the config (load_from, teachers, phases, members)',
    )


def apply_process_options(args: Namespace) -> None:
    """Let the process be what ``--local_rank``, ``--device`` and ``--trust-checkpoint`` say, before anything is built.

    Raises:
        ValueError: If there is no such device.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    hide_gpus(args.device)
    if 'hybridcls.engine' not in sys.modules:
        with quick_imports():  # garbage of the training is then collected without a look at all modules, too
            import hybridcls.engine  # noqa: F401
    if args.trust_checkpoint:
        from hybridcls.checkpoint_reading import trust_checkpoints

        trust_checkpoints()
    use_device(args.device, args.launcher)
