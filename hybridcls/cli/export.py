"""Export a trained model to a folder that predicts without hybridcls and without torch.

The network starts from uint8 RGB images of its size; normalization is inside. What surrounds it (how images are read
and resized, classes, calibration, where it comes from) is in model.json, and runtime.py beside it predicts with numpy,
Pillow and onnxruntime alone. What was written is compared with a test of the checkpoint; if it differs, nothing is left
there.
"""

import os
import sys
import time
from argparse import ArgumentParser, Namespace

from hybridcls.checks import near_files

from .calibration_options import add_calibration_options
from .image_options import check_model
from .json_output import print_json, stdout_for_json, tell
from .quick_imports import quick_imports

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'export a trained model to a folder that predicts without hybridcls and torch'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        'checkpoint',
        help='checkpoint file, or work dir: its best checkpoint, else its last. Also a folder of saved LoRA adapters, '
        'or the config of an EnsembleClassifier',
    )
    parser.add_argument('--out', required=True, metavar='DIR', help='the folder to write')
    parser.add_argument('--force', action='store_true', help='replace DIR if it is an artifact')
    parser.add_argument(
        '--format',
        choices=('onnx', 'torch_export', 'openvino'),
        default='onnx',
        help='torch_export needs torch where it runs, openvino OpenVINO; default: onnx',
    )
    parser.add_argument(
        '--dtype',
        choices=('float32', 'float16', 'int8'),
        default='float32',
        help='float16 halves the file, int8 (of onnx) quarters it and is measured on --data; default: float32',
    )
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
    parser.add_argument(
        '--golden', metavar='FOLDER', help='your own images to compare with, in place of the 16 generated ones'
    )
    parser.add_argument(
        '--data',
        metavar='FOLDER',
        help='held-out images (class folders, a folder, a table): the alarm of the artifact compares later images with '
        'them. Of a folder with train and val, val is taken',
    )
    add_calibration_options(parser)
    parser.add_argument('--tta', action='store_true', help='refused: an exported model sees one view of an image')
    parser.add_argument('--config', help='config, for a checkpoint that holds none (bare weights)')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='run the code in the checkpoint, if it contains some: it may run any command with your rights',
    )


def run(args: Namespace) -> int:
    """Export."""
    began = time.monotonic()
    check_model('export', args)
    if args.tta:
        raise ValueError(
            'export: --tta averages several views of an image, which a pipeline makes, and an exported model sees one. '
            'Leave it out; whoever runs the model can show it several views.'
        )
    if args.data is not None and not os.path.exists(os.path.expanduser(args.data)):
        raise FileNotFoundError(f'export: --data {args.data!r} does not exist.{near_files(args.data)}')
    with stdout_for_json(args.json):
        with quick_imports():
            from hybridcls.apis.artifact import export
            from hybridcls.checkpoint_reading import trust_checkpoints

            if args.trust_checkpoint:
                trust_checkpoints()
        done = export(
            args.checkpoint, args.out, args.format, args.dtype, args.token_merging, args.weights, args.golden,
            args.calibration, args.config, args.force, args.data,
        )  # fmt: skip
        for line in (done.why, *done.notes):
            tell(line, sys.stderr)
    seconds = time.monotonic() - began
    if args.json:
        print_json(
            dict(command='export', checkpoint=done.checkpoint, why=done.why, notes=done.notes, out=done.folder,
                 model=done.description, files=done.files, seconds=round(seconds, 3))
        )  # fmt: skip
        return 0
    width = max(map(len, done.difference))
    tell('Largest difference to PyTorch:')
    for name, value in done.difference.items():
        tell(f'  {name:<{width}}  {value:.2g}')
    size = sum(done.files.values())
    tell(f'{len(done.files)} files, {size / 1e6:.1f} MB -> {done.folder} ({seconds:.0f} s)', sys.stderr)
    return 0
