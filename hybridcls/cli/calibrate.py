"""Calibrate a trained model on held-out images: true probabilities, and answers that are seldom wrong.

What is found is saved beside the checkpoint, where `predict` and `test` find it. Of an index of `hybridcls embed`, with
--sets, it is the similarity from which on an image may be a match; it is saved in the index, where `search` finds it.
The exit code is 1 if there are too few images for a threshold that was asked for: it says how many are missing, and the
rest is saved.
"""

import os
import sys
import time
from argparse import ArgumentParser, Namespace
from typing import Any

from hybridcls.checks import check_file, check_number, counted, near_files

from .image_options import add_image_options, check_model, open_model
from .json_output import print_json, stdout_for_json, tell
from .out_file import add_out_option, check_out

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'calibrate probabilities on held-out images; a threshold for a stated error; sets of classes or matches'
_INDEXES = ('.npz', '.parquet')
_SCALES = ('temperature', 'vector', 'isotonic', 'none')


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        'checkpoint',
        help='checkpoint file, or work dir: its best checkpoint, else its last. Or an index (.npz, .parquet)',
    )
    parser.add_argument(
        '--data',
        required=True,
        metavar='FOLDER',
        help='held-out images in class folders, or a table (path,label). Of a folder with train and val, val is taken. '
        'For an index: queries of `hybridcls embed`, with labels',
    )
    parser.add_argument(
        '--scale',
        choices=_SCALES,
        help='one number; two numbers a class; a step function a class; or none. Default: temperature',
    )
    parser.add_argument(
        '--risk',
        type=float,
        metavar='R',
        help="answer 'unknown' below a threshold, so that at most this share of the other answers is wrong (0.05)",
    )
    parser.add_argument(
        '--confidence', type=float, metavar='C', help='that R (and RATE) is not exceeded; default: 0.95'
    )
    parser.add_argument(
        '--sets',
        type=float,
        metavar='ALPHA',
        help='also give sets of classes, which hold the right one with probability 1 - ALPHA; for an index, of matches',
    )
    parser.add_argument(
        '--skip-sure',
        type=float,
        metavar='RATE',
        help='of a model of two streams: find out for which images one of them can be left out, so that of all images '
        'at most this share gets another class (0.01); for `predict --skip-sure`',
    )
    parser.add_argument(
        '--skip-stream', choices=('cnn', 'vit'), help='the stream to leave out; default: the one that saves more'
    )
    parser.add_argument(
        '--pool',
        choices=('none', 'max', 'mean', 'prototype', 'quality'),
        default='none',
        help='for an index: as in `hybridcls search`',
    )
    add_out_option(parser, 'write to FILE (.json); default: CHECKPOINT.calibration.json, beside the checkpoint')
    parser.add_argument('--seed', type=int, default=0, help='of the division of the images (--risk, --sets)')
    add_image_options(parser)


def run(args: Namespace) -> int:
    """Calibrate; return 1 if a threshold that was asked for is missing."""
    is_index = args.checkpoint.lower().endswith(_INDEXES)
    _check(args, is_index)
    began = time.monotonic()
    with stdout_for_json(args.json):
        result = _calibrate_index(args) if is_index else _calibrate(args)
    if args.json:
        print_json(dict(command='calibrate', **result, seconds=round(time.monotonic() - began, 3)))
    return 1 if result['missing'] else 0


def _check(args: Namespace, is_index: bool) -> None:
    """Find what can be found wrong without the imports that take seconds."""
    check_model('calibrate', args)
    if not os.path.exists(os.path.expanduser(args.data)):
        raise FileNotFoundError(f'calibrate: --data {args.data!r} does not exist.{near_files(args.data)}')
    for name in ('risk', 'confidence', 'sets', 'skip_sure'):
        if getattr(args, name) is not None:
            option = f'--{name.replace("_", "-")}'
            check_number('calibrate', option, getattr(args, name), 0, 1, low_open=True, high_open=True)
    if args.confidence is not None and args.risk is None and args.skip_sure is None:
        raise ValueError(
            'calibrate: --confidence is that of --risk R or --skip-sure RATE. Add one, or leave --confidence out.'
        )
    if args.skip_stream is not None and args.skip_sure is None:
        raise ValueError('calibrate: --skip-stream is that of --skip-sure RATE. Add it, or leave --skip-stream out.')
    check_out('calibrate', args.out, args.force, ('.json',))
    if not is_index:
        if args.pool != 'none':
            raise ValueError(f'calibrate: --pool is for an index, got the checkpoint {args.checkpoint}. Leave it out.')
        return
    given = [
        f'--{name.replace("_", "-")}'
        for name in ('scale', 'risk', 'skip_sure', 'out')
        if getattr(args, name) is not None
    ]
    if given or args.sets is None:
        raise ValueError(
            f'calibrate: expected --sets ALPHA alone for the index {args.checkpoint}, got '
            f'{", ".join(given) or "no --sets"}. Sets of matches are all that an index has.'
        )
    check_file('calibrate', 'file of queries', args.data, 'Type: hybridcls embed CHECKPOINT IMAGES --out FILE.npz')


def _calibrate(args: Namespace) -> dict[str, Any]:
    model = open_model(args, args.checkpoint, args.amp or None, calibration=False)
    from hybridcls.apis.calibration_fit import calibrate
    from hybridcls.engine.checkpoints.calibration_file import calibration_path, write_calibration

    out = args.out or calibration_path(model.checkpoint_path)
    check_out('calibrate', out, args.force, ('.json',))
    report = calibrate(
        model, args.data, args.scale or 'temperature', args.risk, args.confidence or 0.95, args.sets, args.seed,
        args.batch_size, args.workers, args.on_unreadable, args.skip_sure, args.skip_stream,
    )  # fmt: skip
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


def _calibrate_index(args: Namespace) -> dict[str, Any]:
    from hybridcls.apis.embedding_index import EmbeddingIndex
    from hybridcls.apis.match_calibration import calibrate_matches, write_threshold

    index = EmbeddingIndex(args.checkpoint, 'calibrate')
    if index.about.get('threshold') is not None and not args.force:
        raise FileExistsError(
            f'calibrate: {args.checkpoint} has a threshold, {index.about["threshold"]:g}. Add --force to replace it.'
        )
    found = calibrate_matches(index, EmbeddingIndex(args.data, 'calibrate'), args.sets, args.pool)
    missing = []
    if found.threshold is None:
        missing.append(
            f'Sets of matches that lack the right one with at most {args.sets:.3g} need {found.missing} more queries '
            f'with a match in {args.checkpoint}; there are {found.queries}.'
        )
        tell(missing[0], sys.stderr)
    else:
        write_threshold(index, found)
        without = '' if found.rejected is None else (
            f'; of {counted(found.without, "query", "queries")} of other classes {100 * found.rejected:.1f} % have '
            f'no match'
        )  # fmt: skip
        tell(
            f'Matches have a similarity of {found.threshold:.4f} or more: they hold the right one with '
            f'{1 - found.alpha:.3g}; from {counted(found.queries, "query", "queries")}{without} -> {args.checkpoint}'
        )
    return dict(index=args.checkpoint, data=args.data, **found._asdict() | dict(missing=missing))
