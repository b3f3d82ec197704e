"""Find the training images whose labels look wrong, by what the training saw of them.

Writes a page with pictures and a table (CSV). Decide in its column `decision` (drop, relabel, keep), and train again
with `--drop TABLE --relabel TABLE`. A training with --record tells most.
"""

import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from .image_options import add_image_options, check_images, check_model, open_model
from .json_output import print_json, stdout_for_json, tell
from .out_file import add_out_option, check_out, write_out

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'find training images whose labels look wrong'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument('checkpoint', help='checkpoint or work dir')
    parser.add_argument(
        '--data',
        metavar='DATA',
        help='where the training images are, if not where they were: the folder; of a training without a record '
        'labelled images, as class folders or a table (path,label)',
    )
    parser.add_argument('--top', type=int, metavar='N', help='list so many images; default: those that are suspects')
    add_out_option(parser, 'the page; the table gets its name with .csv; default: audit.html in the work dir')
    add_image_options(parser)


def run(args: Namespace) -> int:
    """Audit, and write page and table."""
    check_model('audit', args)
    check_images('audit', [args.data] if args.data is not None else [])
    check_out('audit', args.out, args.force, ('.html',))
    if args.top is not None and args.top < 0:
        raise ValueError(f'audit: expected --top to be 0 or more, got {args.top}.')
    with stdout_for_json(args.json):
        model = open_model(args, args.checkpoint, args.amp or None)
        from hybridcls.apis.audit import audit_data
        from hybridcls.evaluation.result_file import plain_results

        out = args.out or os.path.join(os.path.dirname(model.checkpoint_path), 'audit.html')
        table_out = str(Path(out).with_suffix('.csv'))
        check_out('audit', out, args.force, ('.html',))
        check_out('audit', table_out, args.force, ('.csv',))
        audit = audit_data(
            model, args.data, args.top, args.batch_size, args.workers, lambda text: tell(text, sys.stderr)
        )
        write_out(audit.html.encode(), out)
        write_out(audit.table, table_out)
    if args.json:
        print_json(dict(command='audit', out=out, table=table_out, **plain_results(audit.numbers, finite=True)))
    else:
        numbers = audit.numbers
        tell(
            f'{numbers["suspects"]} of {numbers["images"]} labels look wrong: {out}\nDecide in {table_out} (column '
            f'decision: drop, relabel, keep), then: hybridcls train CONFIG --drop {table_out} --relabel {table_out}'
        )
    return 0
