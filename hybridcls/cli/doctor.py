"""Check the machine, the images and the config before a training. Each finding names the key to change.

With a config: its data, its keys, and one step of the training, in a temporary folder. With --data alone: the images.
The exit code is 1 if there is a problem (with --strict: or a warning); notes are numbers to know.
"""

import os
import sys
import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from .find_config import find_config
from .json_output import print_json, stdout_for_json, tell
from .out_file import add_out_option, check_out, write_out
from .shared_options import add_shared_options, check_shared_paths, load_with_options
from .training_options import add_process_options, add_training_options, apply_process_options, training_options

if TYPE_CHECKING:
    from hybridcls.apis.doctor import Examination, Finding

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'check the machine, the images and the config before a training'
_WIDTH = 100


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        'config',
        nargs='?',
        help='path of a config, or NAME or hybridcls::NAME of a shipped one; leave it out to check only the images of '
        '--data',
    )
    parser.add_argument('--strict', action='store_true', help='exit with 1 also if there are only warnings')
    parser.add_argument(
        '--lr', dest='find_rate', action='store_true', help='suggest a learning rate, by a test of up to 100 updates'
    )
    parser.add_argument(
        '--no-trial',
        action='store_true',
        help='do not build the model: skip the training step and the measurements of memory and speed',
    )
    parser.add_argument(
        '--images',
        type=int,
        default=10_000,
        metavar='N',
        help='check at most N image files, a sample if there are more; default: 10000',
    )
    parser.add_argument('--work-dir', help='work dir of the training, if it exists; its split.csv is then used')
    add_out_option(
        parser, 'write a contact sheet (.png) to FILE: training images as the model sees them, with their labels'
    )
    from .shared_options import SHARED_OPTIONS

    add_shared_options(parser, [name for name in SHARED_OPTIONS if name not in ('lr', 'folds')])
    add_training_options(parser)
    add_process_options(parser)


def run(args: Namespace) -> int:
    """Examine; return 1 if something was found."""
    _check(args)
    began = time.monotonic()
    with stdout_for_json(args.json):
        apply_process_options(args)
        examination = _examine(args)
        if args.out and examination.sheet is not None:
            write_out(examination.sheet, args.out)
    from hybridcls.apis.doctor import counts_of

    counts = counts_of(examination.findings)
    seconds = time.monotonic() - began
    if args.json:
        findings = [one.as_dict() for one in examination.findings]
        sheet = args.out if examination.sheet is not None else None
        print_json(dict(
            command='doctor', config=args.config, data=args.shared_data, findings=findings, counts=counts,
            facts=examination.facts, contact_sheet=sheet, seconds=round(seconds, 2),
        ))  # fmt: skip
    else:
        tell(_text(examination))
        if args.out:
            tell(f'Contact sheet: {args.out}' if examination.sheet else 'No contact sheet: no training batch was read.')
        tell(f'{_count(counts)}, in {seconds:.1f} s.')
    return int(bool(counts['problem'] or (args.strict and counts['warning'])))


def _check(args: Namespace) -> None:
    """Find what can be found wrong without the imports that take seconds."""
    if args.config is None and args.shared_data is None:
        raise ValueError('doctor: expected a config, or --data FOLDER to check only the images, got neither.')
    if args.config is None and (args.find_rate or args.out):
        raise ValueError(
            f'doctor: {"--lr" if args.find_rate else "--out"} needs a config: doctor CONFIG --data FOLDER.'
        )
    if args.no_trial and (args.find_rate or args.out):
        raise ValueError(
            f'doctor: {"--lr" if args.find_rate else "--out"} needs the training step. Leave --no-trial out.'
        )
    if args.images < 1:
        raise ValueError(f'doctor: expected --images of 1 or more, got {args.images}.')
    if args.config is not None:
        args.config = find_config('doctor', args.config)
    check_shared_paths('doctor', args)
    check_out('doctor', args.out, args.force, ('.png',))


def _examine(args: Namespace) -> 'Examination':
    from hybridcls.apis.doctor import Wishes, examine, examine_data

    tell('Checking ...', sys.stderr)
    wishes = Wishes(args.images, not args.no_trial, args.find_rate, bool(args.out))
    if args.config is None:
        return examine_data(args.shared_data, wishes, args.shared_img_size)
    return examine(lambda: load_with_options(args), training_options(args), wishes, args.work_dir or '')


def _text(examination: 'Examination') -> str:
    from hybridcls.apis.doctor.finding import LEVELS

    ordered = sorted(examination.findings, key=lambda one: LEVELS.index(one.level))
    return '\n'.join(line for one in ordered for line in _lines(one))


def _lines(one: 'Finding') -> list[str]:
    phase = f'{one.phase}: ' if one.phase else ''
    lines = [f'{one.level:<8} {phase}{_short(one.where)}: {_short(one.what)}']
    return [*lines, f'{"":<8} -> {_short(one.change)}'] if one.change else lines


def _short(text: str) -> str:
    """Return a text with paths below the working folder shortened."""
    return text.replace(f'{os.getcwd()}{os.sep}', '')


def _count(counts: dict[str, Any]) -> str:
    return ', '.join(f'{number} {level}{"s" * (number != 1)}' for level, number in counts.items())
