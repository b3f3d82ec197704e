"""Export a trained model to a folder that predicts without hybridcls and without torch, and compare the two."""

import sys
from argparse import ArgumentParser, Namespace

from .image_options import check_model
from .json_output import print_json, stdout_for_json, tell
from .quick_imports import quick_imports

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'export a trained model to a folder that predicts without hybridcls and torch'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument('checkpoint', help='checkpoint file, or work dir: its best checkpoint, else its last')
    parser.add_argument('--out', required=True, metavar='DIR', help='the folder to write')
    parser.add_argument('--format', choices=('onnx', 'torch_export', 'openvino'), default='onnx', help='default: onnx')
    parser.add_argument('--dtype', choices=('float32', 'float16', 'int8'), default='float32', help='default: float32')
    parser.add_argument(
        '--token-merging', choices=('keep', 'remove'), help='of a model that merges tokens; default: as in a test'
    )
    parser.add_argument(
        '--weights',
        choices=('test', 'ema', 'raw', 'slow', 'fast'),
        default='test',
        help='of a checkpoint with two sets: the EMA weights or the raw ones, the slow ones of Lookahead or the fast '
        'ones; default: those that a test takes (ema, slow)',
    )
    parser.add_argument('--config', help='config, for a checkpoint that holds none (bare weights)')
    parser.add_argument('--force', action='store_true', help='replace DIR if it is an artifact')


def run(args: Namespace) -> int:
    """Export."""
    check_model('export', args)
    with stdout_for_json(args.json):
        with quick_imports():
            from hybridcls.apis.artifact import export
        done = export(
            args.checkpoint,
            args.out,
            args.format,
            args.dtype,
            args.token_merging,
            args.weights,
            config=args.config,
            force=args.force,
        )
        for line in (done.why, *done.notes):
            tell(line, sys.stderr)
        for name, value in done.difference.items():
            tell(f'  {name}: at most {value:.3g} from PyTorch', sys.stderr)
    if args.json:
        print_json(dict(command='export', why=done.why, out=done.folder, **done.description))
    return 0
