"""Calibrate the probabilities of a trained model on held-out images, and find thresholds with a guaranteed error rate.

The result is saved beside the checkpoint, and `predict` and `test` apply it from then on. For an index of `hybridcls
embed`, --sets finds the similarity at and above which an image may be a match, and saves it in the index for `search`.
The exit code is 1 if there are too few images for a requested threshold: the command then prints how many are missing,
and saves the rest.
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

HELP = 'calibrate the probabilities of a trained model, and find thresholds with a guaranteed error rate'
_INDEXES = ('.npz', '.parquet')
_SCALES = ('temperature', 'vector', 'isotonic', 'none')


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        'checkpoint',
        help='checkpoint file, or work dir: its best checkpoint, or the last one if there is no best. Or an index '
        '(.npz, .parquet)',
    )
    parser.add_argument(
        '--data',
        required=True,
        metavar='FOLDER',
        help='held-out images: one folder for each class, or a table with the columns path and label. If FOLDER has '
        'train and val, val is used. For an index: labelled queries, written by `hybridcls embed`',
    )
    parser.add_argument(
        '--scale',
        choices=_SCALES,
        help='how to scale the scores: temperature (one number), vector (two numbers for each class), isotonic (a '
        'step function for each class), or none; default: temperature, or none if that makes the probabilities of '
        'other images no better',
    )
    parser.add_argument(
        '--risk',
        type=float,
        metavar='R',
        help="answer 'unknown' below a threshold, so that at most the share R of the other answers is wrong, such as "
        '0.05',
    )
    parser.add_argument(
        '--confidence',
        type=float,
        metavar='C',
        help='probability with which R (and RATE) is not exceeded; default: 0.95',
    )
    parser.add_argument(
        '--sets',
        type=float,
        metavar='ALPHA',
        help='also give sets of classes (for an index: of matches) that contain the right one with a probability of '
        'at least 1 - ALPHA',
    )
    parser.add_argument(
        '--skip-sure',
        type=float,
        metavar='RATE',
        help='for models of two streams and `predict --skip-sure`: find out for which images one stream can be '
        'skipped, so that at most the share RATE of all images gets another class, such as 0.01',
    )
    parser.add_argument(
        '--skip-stream', choices=('cnn', 'vit'), help='the stream to skip; default: the one that saves more time'
    )
    parser.add_argument(
        '--pool',
        choices=('none', 'max', 'mean', 'prototype', 'quality'),
        default='none',
        help='for an index: how to compare a query with a class, as in `hybridcls search`; default: none',
    )
    add_out_option(parser, 'write to FILE (.json); default: CHECKPOINT.calibration.json, beside the checkpoint')
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the random division of the images (--risk, --sets)'
    )
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
            'calibrate: --confidence needs --risk R or --skip-sure RATE. Add one of them, or leave --confidence out.'
        )
    if args.skip_stream is not None and args.skip_sure is None:
        raise ValueError('calibrate: --skip-stream needs --skip-sure RATE. Add it, or leave --skip-stream out.')
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
            f'{", ".join(given) or "no --sets"}. An index has no other calibration.'
        )
    check_file('calibrate', 'file of queries', args.data, 'Type: hybridcls embed CHECKPOINT IMAGES --out FILE.npz')


def _calibrate(args: Namespace) -> dict[str, Any]:
    model = open_model(args, args.checkpoint, args.amp or None, calibration=False)
    from hybridcls.apis.calibration_fit import calibrate
    from hybridcls.engine.checkpoints.calibration_file import calibration_path, write_calibration

    out = args.out or calibration_path(model.checkpoint_path)
    check_out('calibrate', out, args.force, ('.json',))
    report = calibrate(
        model, args.data, args.scale, args.risk, args.confidence or 0.95, args.sets, args.seed,
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
            f'calibrate: {args.checkpoint} already has the threshold {index.about["threshold"]:g}. Add --force to '
            'replace it.'
        )
    found = calibrate_matches(index, EmbeddingIndex(args.data, 'calibrate'), args.sets, args.pool)
    missing = []
    if found.threshold is None:
        missing.append(
            f'Sets of matches that lack the right one with a probability of at most {args.sets:.3g} need '
            f'{found.missing} more queries with a match in {args.checkpoint}; there are {found.queries}.'
        )
        tell(missing[0], sys.stderr)
    else:
        write_threshold(index, found)
        without = '' if found.rejected is None else (
            f'; of {counted(found.without, "query", "queries")} of other classes {100 * found.rejected:.1f} % have '
            f'no match'
        )  # fmt: skip
        tell(
            f'Matches are images with a similarity of {found.threshold:.4f} or more. They include the right one with '
            f'a probability of {1 - found.alpha:.3g}; calibrated on '
            f'{counted(found.queries, "query", "queries")}{without} -> {args.checkpoint}'
        )
    return dict(index=args.checkpoint, data=args.data, **found._asdict() | dict(missing=missing))
