"""Push a trained model to the Hugging Face Hub or to a folder, as safetensors with its config, class names and a
README.

A checkpoint becomes a folder without pickles, which every command accepts as a checkpoint. An exported model and a
folder of saved LoRA adapters are pushed as they are.
"""

import os
import sys
from argparse import ArgumentParser, Namespace

from hybridcls.checks import check_file, counted, near_files

from .json_output import print_json, stdout_for_json, tell
from .quick_imports import quick_imports

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'push a model to the Hugging Face Hub or to a folder, without pickles'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        'source',
        help='checkpoint file, or work dir: its best checkpoint, or the last one if there is no best. Or a folder of '
        'an exported model (`hybridcls export`) or of saved LoRA adapters',
    )
    parser.add_argument(
        'place',
        help='folder, such as ./model, or OWNER/NAME or hf://OWNER/NAME on the Hub; an existing folder OWNER/NAME '
        'comes first',
    )
    parser.add_argument(
        '--results',
        metavar='FILE',
        help='output of `hybridcls test CHECKPOINT --json`, whose metrics the README then lists',
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        '--report',
        metavar='FILE',
        help='report.json of `hybridcls report`, which the README is written from; default: the one in the work dir, '
        'if any',
    )
    group.add_argument(
        '--no-report', dest='report', action='store_false', default=None, help='write the README without a report'
    )
    parser.add_argument(
        '--figures',
        action='store_true',
        help='also push the charts of the report; images of the dataset are never pushed',
    )
    parser.add_argument(
        '--license', metavar='NAME', help='licence of the model, as the Hub spells it, such as apache-2.0'
    )
    parser.add_argument('--private', action='store_true', default=None, help='make the repository private if it is new')
    parser.add_argument('--force', action='store_true', help='overwrite a folder that holds a pushed model')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='allow the checkpoint to run the code that it contains; it may run any command with your rights',
    )


def run(args: Namespace) -> int:
    """Push."""
    if '://' not in args.source and not os.path.exists(os.path.expanduser(args.source)):
        raise FileNotFoundError(f'push: the checkpoint {args.source!r} does not exist.{near_files(args.source)}')
    if args.results is not None:
        check_file('push', 'results', args.results, 'Type: hybridcls test CHECKPOINT --json > FILE')
    if args.report:
        check_file('push', 'report', args.report, 'Type: hybridcls report CHECKPOINT')
    with stdout_for_json(args.json):
        with quick_imports():
            from hybridcls.apis.hub.pushing import push
            from hybridcls.checkpoint_reading import trust_checkpoints

        if args.trust_checkpoint:
            trust_checkpoints()
        pushed = push(
            args.source, args.place, args.results, args.license, args.private, args.force, args.report, args.figures
        )
        tell(pushed.why, sys.stderr)
        for note in pushed.notes:
            tell(note, sys.stderr)
        size = sum(pushed.files.values()) / 2**20
        tell(f'{counted(len(pushed.files), "file")}, {size:.1f} MiB -> {pushed.commit or pushed.place}', sys.stderr)
    if args.json:
        print_json(
            dict(
                command='push',
                source=args.source,
                place=str(pushed.place),
                kind=pushed.kind,
                why=pushed.why,
                files=pushed.files,
                notes=list(pushed.notes),
                commit=pushed.commit,
            )
        )
    return 0
