"""Find the training images whose labels look wrong, and the kinds of images that the model fails on.

The command writes a page with pictures, and a table (CSV). Fill its column `decision` with drop, relabel or keep, and
train again with `--drop TABLE --relabel TABLE`; --decide fills the column for you. The audit finds most if the training
ran with --record.
"""

import os
import shlex
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any, Optional

from hybridcls.checks import check_file, check_number, counted, verb_of

from .image_options import add_image_options, check_images, check_model, open_model
from .json_output import print_json, stdout_for_json, tell
from .out_file import add_out_option, check_out, write_out

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'find training images with suspicious labels, and images that the model fails on'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument('checkpoint', help='checkpoint or work dir')
    parser.add_argument(
        '--data',
        metavar='DATA',
        help='folder of the training images, if it has moved. For a training without a record: any labelled images, '
        'as one folder for each class or a table with the columns path and label',
    )
    parser.add_argument('--top', type=int, metavar='N', help='list N images; default: all suspects')
    parser.add_argument(
        '--decide',
        choices=['drop', 'relabel'],
        help='fill the column decision of all listed images, so that the next training can read the table as it is; '
        'the last image of a class stays undecided. Default: the column is empty',
    )
    parser.add_argument(
        '--held-out',
        metavar='DATA',
        help='labelled images that the model was not trained on; default: the test images of the config, or else its '
        'validation images',
    )
    parser.add_argument(
        '--metadata',
        action='append',
        default=[],
        metavar='TABLE',
        help='table with a column path and other columns that describe the held-out images; the audit searches them '
        'for slices on which the model fails. May be repeated',
    )
    parser.add_argument(
        '--rate',
        type=float,
        default=0.05,
        metavar='SHARE',
        help='probability, at most, of listing any slice if the errors are unrelated to the metadata; default: 0.05',
    )
    add_out_option(
        parser, 'page to write (.html), with the table beside it (.csv); default: audit.html in the work dir'
    )
    add_image_options(parser, on_unreadable=False)


def run(args: Namespace) -> int:
    """Audit, and write page and table."""
    check_model('audit', args)
    for option in ('data', 'held_out'):
        if (path := getattr(args, option)) is not None:
            check_images('audit', [path], f'--{option.replace("_", "-")}')
    for table in args.metadata:
        check_file('audit', '--metadata', table)
    check_number('audit', '--rate', args.rate, 0, 1, low_open=True, high_open=True)
    check_out('audit', args.out, args.force, ('.html',))
    if args.top is not None and args.top < 0:
        raise ValueError(f'audit: expected --top to be 0 or more, got {args.top}.')
    with stdout_for_json(args.json):
        model = open_model(args, args.checkpoint, args.amp or None)
        from hybridcls.apis.audit import MORE_TABLES, audit_data
        from hybridcls.evaluation.result_file import plain_results

        out = args.out or os.path.join(os.path.dirname(model.checkpoint_path), 'audit.html')
        table_out = str(Path(out).with_suffix('.csv'))
        check_out('audit', out, args.force, ('.html',))
        check_out('audit', table_out, args.force, ('.csv',))
        more_out = {end: f'{Path(out).with_suffix("")}{end}' for end in MORE_TABLES}
        for path in more_out.values():
            check_out('audit', path, args.force, ('.csv',))
        audit = audit_data(
            model, args.data, args.top, args.batch_size, args.workers, lambda text: tell(text, sys.stderr),
            args.held_out, args.metadata, args.rate, args.decide,
        )  # fmt: skip
        write_out(audit.html.encode(), out)
        write_out(audit.table, table_out)
        for end, content in audit.more_tables.items():
            write_out(content, more_out[end])
    if args.json:
        print_json(dict(command='audit', out=out, table=table_out, **plain_results(audit.numbers, finite=True)))
    else:
        numbers = audit.numbers
        if not numbers['images']:
            tell(f'The training images were not found. Slices and duplicates of the held-out images: {out}')
            return 0
        known = f', {numbers["known"]} of them already decided' if numbers['known'] else ''
        look = verb_of(numbers['suspects'], 'looks', 'look')
        tell(f'{numbers["suspects"]} of {counted(numbers["images"], "label")} {look} wrong{known}: {out}')
        if audit.table.count(b'\n') > 1:  # more than the heading
            tell(_next(args.decide, numbers, table_out))
    return 0


def _next(decide: Optional[str], numbers: dict[str, Any], table: str) -> str:
    """Say what to do with the table."""
    file, before = shlex.quote(table), numbers['decided_before']
    if not decide:
        text = (
            f'Fill the column decision of {table} (drop, relabel or keep), then type: hybridcls train CONFIG --drop '
            f'{file} --relabel {file} (leave out an option that no line needs)'
        )
        return f'{text}. The table contains your earlier decisions.' if before else text
    text = f'{table} has the decision {decide} for {numbers["decided"]} of {numbers["listed"]} images'
    if numbers['decided'] < numbers['listed']:
        text += '; the others are the last of their class, so you decide on them'
    if before:
        text += f', and {counted(sum(before.values()), "earlier decision")}'
    made = {decide} if numbers['decided'] else set()
    options = [f'--{what} {file}' for what in ('drop', 'relabel') if what in made | before.keys()]
    return text + (f'. Next: hybridcls train CONFIG {" ".join(options)}' if options else '.')
