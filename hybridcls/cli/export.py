"""Export a trained model to a folder that predicts without hybridcls and torch.

The exported network takes uint8 RGB images of its size, and normalizes them itself. model.json describes the rest: how
to read and resize images, the classes, the calibration, the origin of the model. runtime.py predicts with numpy, Pillow
and onnxruntime alone. The command compares the answers of the exported model with those of the checkpoint, and writes
nothing if they differ.
"""

import os
import sys
import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Optional

from hybridcls.checks import near_files

from .calibration_options import add_calibration_options
from .image_options import check_model
from .json_output import print_json, stdout_for_json, tell
from .quick_imports import quick_imports

if TYPE_CHECKING:
    from hybridcls.apis.artifact import TooMuchLost

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'export a trained model to a folder that predicts without hybridcls and torch'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        'checkpoint',
        help='checkpoint file, or work dir: its best checkpoint, or the last one if there is no best. Also: a folder '
        'of saved LoRA adapters, or the config of an EnsembleClassifier',
    )
    parser.add_argument('--out', required=True, metavar='DIR', help='folder to write')
    parser.add_argument('--force', action='store_true', help='overwrite DIR if it is an exported model')
    parser.add_argument(
        '--format',
        choices=('onnx', 'torch_export', 'openvino'),
        default='onnx',
        help='format of the network; torch_export needs torch to run, openvino needs OpenVINO; default: onnx',
    )
    parser.add_argument(
        '--dtype',
        choices=('float32', 'float16', 'int8'),
        default='float32',
        help='precision of the weights: float16 halves the file; int8 (only onnx) quarters it, and needs --data; '
        'default: float32',
    )
    parser.add_argument(
        '--token-merging',
        choices=('keep', 'remove'),
        help='keep or remove the token merging of the model; default: as in a test',
    )
    parser.add_argument(
        '--weights',
        choices=('test', 'ema', 'raw', 'slow', 'fast'),
        default='test',
        help='for a checkpoint with two sets of weights: ema or raw, or slow or fast of Lookahead; default: test, the '
        'set that a test uses (ema, slow)',
    )
    parser.add_argument(
        '--golden', metavar='FOLDER', help='images to compare the answers on; default: 16 generated images'
    )
    parser.add_argument(
        '--data',
        metavar='FOLDER',
        help='held-out images (class folders, a folder, or a table), which the drift alarm of the artifact compares '
        'later images with. If FOLDER has train and val, val is used',
    )
    parser.add_argument(
        '--max-loss',
        type=float,
        metavar='POINTS',
        help='largest loss of int8 on a part of the held-out images, in percentage points of accuracy, coverage and '
        'ECE; default: 1',
    )
    add_calibration_options(parser)
    parser.add_argument(
        '--tta', action='store_true', help='not supported: an exported model sees one view of each image'
    )
    parser.add_argument('--config', help='config of the model, for a checkpoint without one (bare weights)')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='allow the checkpoint to run the code that it contains; it may run any command with your rights',
    )


def run(args: Namespace) -> int:
    """Export."""
    began = time.monotonic()
    check_model('export', args)
    if args.tta:
        raise ValueError(
            'export: --tta averages several views of an image, but an exported model sees one. Leave it out; your '
            'code can give the model several views and average its answers.'
        )
    if args.data is not None and not os.path.exists(os.path.expanduser(args.data)):
        raise FileNotFoundError(f'export: --data {args.data!r} does not exist.{near_files(args.data)}')
    with stdout_for_json(args.json):
        with quick_imports():
            from hybridcls.apis.artifact import TooMuchLost, export
            from hybridcls.checkpoint_reading import trust_checkpoints

            if args.trust_checkpoint:
                trust_checkpoints()
        refused: Optional[TooMuchLost] = None
        try:
            done = export(
                args.checkpoint, args.out, args.format, args.dtype, args.token_merging, args.weights, args.golden,
                args.calibration, args.config, args.force, args.data, args.max_loss,
                lambda sentence: tell(sentence, sys.stderr),
            )  # fmt: skip
        except TooMuchLost as error:
            refused = error
        else:
            for line in (done.why, *done.notes):
                tell(line, sys.stderr)
    if refused is not None:
        return _refuse(args, refused)
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


def _refuse(args: Namespace, lost: 'TooMuchLost') -> int:
    """Say what int8 would lose; nothing was written."""
    for line in (*lost.notes, str(lost)):
        tell(line, sys.stderr)
    if args.json:
        print_json(dict(command='export', checkpoint=args.checkpoint, out=None, refused=str(lost), notes=lost.notes))
    return 1
