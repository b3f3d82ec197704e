"""Find out why an exported model gives other answers than the original one.

The command checks the files, the preprocessing and the graph of the artifact against its golden images. It can also
check your preprocessing, your whole prediction code, a graph that was converted again, or the checkpoint. `python
DIR/verify.py` does the same without hybridcls, except for the checkpoint. The exit code is 1 if there is a mismatch;
each is explained in one sentence that names what to change.
"""

import os
import sys
import time
from argparse import ArgumentParser, Namespace

from hybridcls.checks import check_file, near_files

from .device import add_device_option, hide_gpus
from .json_output import print_json, stdout_for_json, tell
from .quick_imports import quick_imports

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'find out why an exported model gives other answers than the original one'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    function = 'FILE.py:FUNCTION'
    parser.add_argument('folder', metavar='DIR', help='folder of an exported model (`hybridcls export`)')
    parser.add_argument(
        '--pipeline',
        metavar=function,
        help='check your preprocessing: a function that takes the path of an image and returns the input of the '
        'network',
    )
    parser.add_argument(
        '--predict',
        metavar=function,
        help='check your whole prediction code: a function that takes the path of an image and returns probabilities '
        'or a class',
    )
    parser.add_argument('--model', metavar='FILE.onnx', help='check a graph that was converted or quantized again')
    parser.add_argument('--checkpoint', help='also compare with the exported checkpoint or work dir, run by PyTorch')
    parser.add_argument('--config', help='config of the model, for a checkpoint without one (bare weights)')
    parser.add_argument(
        '--stage',
        choices=('uint8', 'unit', 'normalized'),
        help='range of the values that --pipeline returns: uint8 (0 to 255), unit (0 to 1) or normalized; default: '
        'uint8 or normalized, whichever fits',
    )
    parser.add_argument(
        '--layout',
        choices=('NHWC', 'NCHW'),
        help='order of the axes that --pipeline returns; default: NHWC for uint8, either for floats',
    )
    parser.add_argument(
        '--tolerance',
        type=float,
        metavar='X',
        help='largest difference of the outputs to accept, relative to the largest output; default: 0.001 for float32',
    )
    parser.add_argument(
        '--allow',
        action='append',
        default=[],
        metavar='NAME',
        help='do not count the finding NAME, such as opset, as a mismatch',
    )
    add_device_option(parser)
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='allow the artifact or checkpoint to run the code that it contains; it may run any command with your '
        'rights',
    )


def run(args: Namespace) -> int:
    """Verify; return 1 if there is a mismatch."""
    began = time.monotonic()
    if not os.path.isdir(args.folder):
        near = ' It is a file.' if os.path.exists(args.folder) else near_files(args.folder)
        raise FileNotFoundError(f'verify: there is no folder {args.folder!r}.{near}')
    if args.checkpoint is not None and not os.path.isdir(args.checkpoint):
        check_file('verify', 'checkpoint', args.checkpoint)
    with stdout_for_json(args.json):
        hide_gpus(args.device)
        with quick_imports():
            from hybridcls.apis.artifact.artifact_folder import check_no_program
            from hybridcls.apis.artifact.shipped.verify import functions_of
            from hybridcls.apis.artifact.verification import verify_artifact
            from hybridcls.checkpoint_reading import trust_checkpoints

            if args.trust_checkpoint:
                trust_checkpoints()
        check_no_program('verify', args.folder, args.trust_checkpoint)
        report = verify_artifact(
            args.folder, args.checkpoint, args.device, args.config, **functions_of(args), stage=args.stage,
            layout=args.layout, tolerance=args.tolerance, allow=args.allow,
        )  # fmt: skip
    if args.json:
        print_json(dict(command='verify', **report.to_json(), seconds=round(time.monotonic() - began, 3)))
    else:
        tell(str(report), sys.stdout)
    return 0 if report.ok else 1
