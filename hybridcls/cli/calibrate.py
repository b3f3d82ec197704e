"""Calibrate a trained model on held-out images: true probabilities, and answers that are seldom wrong.

What is found is saved beside the checkpoint, where `predict` and `test` find it. The exit code is 1 if the images do not
support a threshold that was asked for: it says how many are missing, and the rest is saved.
"""

import os
import sys
import time
from argparse import ArgumentParser, Namespace
from typing import Any

from hybridcls.checks import check_file, check_number, near_files

from .device import add_device_option, hide_gpus
from .json_output import print_json, stdout_for_json, tell
from .out_file import add_out_option, check_out
from .quick_imports import quick_imports

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'calibrate probabilities on held-out images; a threshold for a stated error; sets of classes'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument('checkpoint', help='checkpoint file, or work dir: its best checkpoint, else its last')
    parser.add_argument(
        '--data',
        required=True,
        metavar='FOLDER',
        help='held-out images in class folders, or a table (path,label). Of a folder with train and val, val is taken',
    )
    parser.add_argument(
        '--scale',
        choices=['temperature', 'vector', 'isotonic', 'none'],
        default='temperature',
        help='one number; two numbers a class; a step function a class; or none. Default: temperature',
    )
    parser.add_argument(
        '--risk',
        type=float,
        metavar='R',
        help="answer 'unknown' below a threshold, so that at most this share of the other answers is wrong (0.05)",
    )
    parser.add_argument(
        '--confidence', type=float, default=0.95, metavar='C', help='that R is not exceeded; default: 0.95'
    )
    parser.add_argument(
        '--sets',
        type=float,
        metavar='ALPHA',
        help='also give sets of classes, which hold the right one with probability 1 - ALPHA',
    )
    parser.add_argument('--config', help='config, for a checkpoint that holds none (bare weights)')
    add_out_option(parser, 'write to FILE (.json); default: CHECKPOINT.calibration.json, beside the checkpoint')
    parser.add_argument('--seed', type=int, default=0, help='of the division into halves (with --risk, --sets)')
    parser.add_argument('--batch-size', type=int, metavar='N', help='images at once; default: as in a test')
    parser.add_argument('--workers', type=int, metavar='N', help='threads that read images ahead')
    parser.add_argument('--amp', action='store_true', help='mixed precision, as in test; default: as the config says')
    add_device_option(parser)
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='run the code in the checkpoint, if it contains some: it may run any command with your rights',
    )


def run(args: Namespace) -> int:
    """Calibrate; return 1 if a threshold that was asked for is missing."""
    _check(args)
    began = time.monotonic()
    with stdout_for_json(args.json):
        hide_gpus(args.device)
        result = _calibrate(args)
    if args.json:
        print_json(dict(command='calibrate', **result, seconds=round(time.monotonic() - began, 3)))
    return 1 if result['missing'] else 0


def _check(args: Namespace) -> None:
    """Find what can be found wrong without the imports that take seconds."""
    if '://' not in args.checkpoint and not os.path.isdir(args.checkpoint):
        check_file('calibrate', 'checkpoint', args.checkpoint)
    if not os.path.exists(os.path.expanduser(args.data)):
        raise FileNotFoundError(f'calibrate: --data {args.data!r} does not exist.{near_files(args.data)}')
    for name in ('risk', 'confidence', 'sets'):
        if getattr(args, name) is not None:
            check_number('calibrate', f'--{name}', getattr(args, name), 0, 1, low_open=True, high_open=True)
    check_out('calibrate', args.out, args.force, ('.json',))


def _calibrate(args: Namespace) -> dict[str, Any]:
    with quick_imports():
        from hybridcls.apis.calibration import calibrate
        from hybridcls.apis.inferencer import HybridInferencer
        from hybridcls.checkpoint_reading import trust_checkpoints
        from hybridcls.engine.checkpoints.calibration_file import calibration_path, write_calibration

        if args.trust_checkpoint:
            trust_checkpoints()
        model = HybridInferencer(args.checkpoint, args.device, args.config, args.amp or None, calibration=False)
    tell(model.why)
    out = args.out or calibration_path(model.checkpoint_path)
    check_out('calibrate', out, args.force, ('.json',))
    report = calibrate(
        model, args.data, args.scale, args.risk, args.confidence, args.sets, args.seed, args.batch_size, args.workers
    )
    for note in report.notes:
        tell(note)
    write_calibration(report.calibration, out)
    tell(f'{report.calibration} -> {out}')
    for sentence in report.missing:
        tell(sentence, sys.stderr)
    return dict(
        checkpoint=model.checkpoint_path, data=args.data, out=out, calibration=report.calibration.to_json(),
        notes=report.notes, missing=report.missing,
    )  # fmt: skip
