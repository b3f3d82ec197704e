"""Pull a model that `hybridcls push` has pushed to the Hugging Face Hub or to a folder.

The digest of each file is checked. Every command accepts the pulled folder as a checkpoint (or as an exported model, or
as adapters). No pulled code is run, and pickles are refused.
"""

import sys
from argparse import ArgumentParser, Namespace

from hybridcls.checks import counted

from .json_output import print_json, stdout_for_json, tell
from .quick_imports import quick_imports

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'pull a model from the Hugging Face Hub or from a folder'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument('place', help='OWNER/NAME or hf://OWNER/NAME on the Hub, or a folder with a pushed model')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder to write')
    parser.add_argument('--revision', metavar='R', help='branch, tag or commit on the Hub; default: the main branch')
    parser.add_argument('--force', action='store_true', help='overwrite DIR if it holds a pulled model')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='also accept files that may run code when they are read; it may run any command with your rights',
    )


def run(args: Namespace) -> int:
    """Pull."""
    with stdout_for_json(args.json):
        with quick_imports():
            from hybridcls.apis.hub.pulling import pull

        pulled = pull(args.place, args.out, args.revision, args.trust_checkpoint, args.force)
        for note in pulled.notes:
            tell(note, sys.stderr)
        size = sum(pulled.files.values()) / 2**20
        tell(
            f'{pulled.kind} of {counted(len(pulled.files), "file")}, {size:.1f} MiB, identical to the pushed ones -> '
            f'{args.out}',
            sys.stderr,
        )
    if args.json:
        print_json(
            dict(
                command='pull',
                place=str(pulled.place),
                out=pulled.folder,
                kind=pulled.kind,
                files=pulled.files,
                notes=list(pulled.notes),
            )
        )
    return 0
