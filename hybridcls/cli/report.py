"""Write an HTML report: what was trained, how good it is, and where it fails.

The report is a single file that needs no network. A JSON file beside it has the same numbers. The exit code is 1 if
some images could not be read (they are listed).
"""

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from hybridcls.checks import check_number, counted, listed

from .image_options import add_image_options, check_images, check_model, open_model
from .json_output import print_json, stdout_for_json, tell
from .out_file import add_out_option, check_out, write_out
from .overlay_options import add_overlay_options, chosen_layers

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'write an HTML report: what was trained, how good it is, and where it fails'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument('checkpoint', help='checkpoint or work dir')
    parser.add_argument(
        '--data',
        metavar='DATA',
        help='labelled images: one folder for each class, or a table with the columns path and label; default: the '
        'test images of the config, or else its validation images',
    )
    parser.add_argument(
        '--ood',
        metavar='IMAGES',
        help='images that belong to none of the classes, to measure how well the model rejects them',
    )
    parser.add_argument(
        '--gallery',
        metavar='IMAGES',
        help='images to search for nearest neighbours: class folders, such as the training images, or an index of '
        '`hybridcls embed`; default: the images of --data',
    )
    parser.add_argument(
        '--corruptions',
        nargs='*',
        metavar='KIND',
        help='also test on corrupted images, as `hybridcls test --corruptions` does: blur, noise, jpeg, brightness, '
        'resolution; default without KIND: all of them, which takes 25 times as long',
    )
    add_overlay_options(
        parser, '--overlays', 'show class activation maps (Grad-CAM) of N images, and measure how faithful they are; '
        'default without N: 12',
        nargs='?', const=12, type=int, metavar='N',
    )  # fmt: skip
    add_out_option(parser, 'file to write (.html); default: report.html in the work dir')
    add_image_options(parser)


def run(args: Namespace) -> int:
    """Evaluate, and write the page."""
    check_model('report', args)
    for option in ('data', 'ood', 'gallery'):
        if (path := getattr(args, option)) is not None:
            check_images('report', [path], f'--{option}')
    if args.overlays is not None:
        check_number('report', '--overlays', args.overlays, 1, integer=True)
    layers = chosen_layers('report', args)
    check_out('report', args.out, args.force, ('.html',))
    with stdout_for_json(args.json):
        model = open_model(args, args.checkpoint, args.amp or None)
        from hybridcls.apis.report import make_report
        from hybridcls.evaluation.result_file import plain_results

        folder = args.checkpoint if os.path.isdir(args.checkpoint) else os.path.dirname(model.checkpoint_path)
        out = args.out or os.path.join(folder, 'report.html')
        numbers_out = str(Path(out).with_suffix('.json'))
        check_out('report', out, args.force, ('.html',))
        check_out('report', numbers_out, args.force, ('.json',))
        report = make_report(
            model, args.data, args.ood, args.batch_size, args.workers, lambda text: tell(text, sys.stderr),
            args.on_unreadable, args.gallery, args.corruptions, args.overlays or 0, layers,
        )  # fmt: skip
        numbers = plain_results(report.numbers, finite=True)
        write_out(report.html.encode(), out)
        write_out(json.dumps(numbers, indent=1).encode(), numbers_out)
    if unreadable := report.numbers['unreadable']:
        tell(f'{counted(len(unreadable), "image")} could not be read: {listed(unreadable, 5)}.', sys.stderr)
    if args.json:
        print_json(dict(command='report', out=out, **report.numbers))
    else:
        tell(f'{out} ({len(report.html) / 2**20:.1f} MB), and the numbers: {numbers_out}')
    return 1 if report.numbers['unreadable'] else 0
