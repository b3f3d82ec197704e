"""Find out what is wrong where an exported model answers otherwise, and name it.

Files, preprocessing and graph of the artifact are compared with its golden images; so are your own preprocessing, your
whole code, and a graph that was converted again. The same as `python DIR/verify.py`, which needs no hybridcls; here the
checkpoint can be compared too. The exit code is 1 if a mismatch was found: a sentence each, with what to change.
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

HELP = 'name what is wrong where an exported model answers otherwise: preprocessing, graph, classes, thresholds'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    function = 'FILE.py:FUNCTION'
    parser.add_argument('folder', metavar='DIR', help='folder of `hybridcls export`')
    parser.add_argument(
        '--pipeline', metavar=function, help="your preprocessing: from the path of an image to the network's input"
    )
    parser.add_argument(
        '--predict', metavar=function, help='your whole code: from the path of an image to probabilities or a class'
    )
    parser.add_argument('--model', metavar='FILE.onnx', help='a graph that was converted or quantized again')
    parser.add_argument('--checkpoint', help='checkpoint or work dir that was exported: PyTorch is compared too')
    parser.add_argument('--config', help='config, for a checkpoint that holds none (bare weights)')
    parser.add_argument(
        '--stage', choices=('uint8', 'unit', 'normalized'), help='what --pipeline gives; default: uint8 or normalized'
    )
    parser.add_argument('--layout', choices=('NHWC', 'NCHW'), help='default: NHWC for uint8, any for floats')
    parser.add_argument('--tolerance', type=float, metavar='X', help='of outputs; default: 0.001 for float32')
    parser.add_argument(
        '--allow', action='append', default=[], metavar='NAME', help='a finding of this name is no mismatch (opset)'
    )
    add_device_option(parser)
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='run the code in the artifact or checkpoint, if it contains some: it may run any command with your rights',
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
