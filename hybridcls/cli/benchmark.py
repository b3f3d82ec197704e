"""Measure the speed of a trained model with each inference setting, and choose the fastest one that keeps the accuracy.

The settings are eager, bfloat16, compiled, with merged tokens, and exported to onnxruntime. Each runs in a process of
its own on the same images, in interleaved rounds. --out writes the chosen setting as a config for `hybridcls predict
--config`. The exit code is 1 if --out is given and no setting is known to stay within --max-loss.
"""

import os
import shutil
import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from .device import hide_gpus
from .image_options import add_image_options, check_images, check_model, open_model
from .json_output import print_json, stdout_for_json, tell
from .out_file import add_out_option, check_out, write_out
from .quick_imports import quick_imports

if TYPE_CHECKING:
    from hybridcls.apis.benchmark.measuring import Benchmark
    from hybridcls.apis.inferencer import HybridInferencer

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'measure the speed of a trained model with each inference setting, and choose the fastest accurate one'
_RULES = ('interval', 'estimate')


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument('checkpoint', help='checkpoint, work dir, or folder of an exported model (`hybridcls export`)')
    parser.add_argument(
        '--data',
        metavar='DATA',
        help='held-out images with labels, in the formats of `hybridcls calibrate --data`; without them, no accuracy '
        'is measured',
    )
    parser.add_argument(
        '--batch-sizes',
        type=int,
        nargs='+',
        default=[1, 8, 64],
        metavar='N',
        help='batch sizes to measure; default: 1 8 64',
    )
    parser.add_argument(
        '--settings',
        nargs='+',
        metavar='NAME',
        help='settings to measure: eager, bf16, fp16, channels_last, compiled and tome=RATIO, combined with + '
        '(compiled+bf16); onnxruntime, onnxruntime_int8. Default: the settings that may be faster on the device',
    )
    parser.add_argument(
        '--max-loss',
        type=float,
        default=0.5,
        metavar='POINTS',
        help='largest loss of accuracy to accept, in percentage points; default: 0.5',
    )
    parser.add_argument(
        '--rule',
        choices=_RULES,
        default='interval',
        help='what must stay within --max-loss: the 95 %% interval of the loss, or its estimate; default: interval',
    )
    parser.add_argument(
        '--rounds', type=int, default=21, metavar='N', help='largest number of timed calls of each setting; default: 21'
    )
    parser.add_argument(
        '--seconds',
        type=float,
        default=60,
        metavar='S',
        help='time limit for the rounds of a batch size, in seconds; default: 60',
    )
    parser.add_argument('--threads', type=int, metavar='N', help="number of CPU threads; default: PyTorch's default")
    add_out_option(
        parser, 'write the chosen settings to FILE (.py), a config for --config of predict, report and calibrate'
    )
    add_image_options(parser, batch_size=False, on_unreadable=False)


def run(args: Namespace) -> int:
    """Measure; return 1 if nothing could be chosen for ``--out``."""
    is_artifact = os.path.isfile(os.path.join(args.checkpoint, 'model.json'))
    check_model('benchmark', args)
    if args.data is not None:
        check_images('benchmark', [args.data], '--data')
    check_out('benchmark', args.out, args.force, ('.py',))
    if args.out and (is_artifact or args.data is None):
        raise ValueError(
            'benchmark: --out writes settings for `hybridcls predict`, which runs checkpoints: '
            + (
                'leave --out out for an exported model.'
                if is_artifact
                else 'add --data DATA to measure the loss of accuracy.'
            )
        )
    if args.threads is not None and args.threads < 1:
        raise ValueError(f'benchmark: expected --threads of 1 or more, got {args.threads}.')
    with stdout_for_json(args.json):
        hide_gpus(args.device)
        with quick_imports():
            import torch

            from hybridcls.apis.benchmark import BenchmarkOptions, benchmark
            from hybridcls.apis.benchmark.benchmark_text import benchmark_text
            from hybridcls.apis.benchmark.measuring import check_artifact
            from hybridcls.checkpoint_reading import trust_checkpoints

        if args.threads:
            torch.set_num_threads(args.threads)
        options = BenchmarkOptions(
            args.batch_sizes, args.settings, args.max_loss, args.rule, args.rounds, args.seconds, args.workers,
            args.trust_checkpoint,
        )  # fmt: skip
        model = None
        if is_artifact:
            check_artifact(args.checkpoint, args.trust_checkpoint)
        else:
            model = open_model(args, args.checkpoint, args.amp or None)
        if args.trust_checkpoint:
            trust_checkpoints()
        source = args.checkpoint if model is None else model.checkpoint_path
        opened = dict(device=args.device, config=args.config, amp=args.amp or None)
        found = benchmark(source, options, model, opened, args.data, lambda text: tell(text, sys.stderr))
        text = benchmark_text(found, shutil.get_terminal_size((120, 24)).columns)
        if args.out and model is not None and found.chosen is not None:
            _write(args, model, found)
    if args.json:
        print_json(
            dict(command='benchmark', checkpoint=source, out=args.out if found.chosen else None, **found.as_dict())
        )
    else:
        tell(text)
        if found.chosen is not None:
            tell(f'Chosen: {found.chosen}.' + (f' {_command(args)}' if args.out else ''))
    if args.out and found.chosen is None:
        tell('benchmark: no setting is known to stay within --max-loss; --out was not written.', sys.stderr)
        return 1
    return 0


def _write(args: Namespace, model: 'HybridInferencer', found: 'Benchmark') -> None:
    from hybridcls.apis.benchmark.fast_config import fast_config
    from hybridcls.apis.inference_settings import InferenceSettings

    row = next(row for row in found.rows if row.name == found.chosen)
    settings = row.settings or InferenceSettings()
    size = max(row.speeds)
    measured = (
        f'{row.speeds[size].images_per_second:.1f} images/s at batch {size} on {found.machine["cpu"]}, '
        f'{row.speeds[size].ratio:.2f} of the time of eager; {row.why}.'
    )
    write_out(fast_config(model.checkpoint_path, model.config, settings, args.out, measured).encode(), args.out)


def _command(args: Namespace) -> str:
    return f'{args.out}: hybridcls predict {args.checkpoint} IMAGES --config {args.out}'
