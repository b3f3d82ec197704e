"""Pull a model that was pushed from the Hugging Face Hub or from a folder; each file is compared with its digest.

What is pulled is a checkpoint for every command (or an artifact, or adapters). Nothing that comes is run, and pickles
are refused.
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
    parser.add_argument('place', help='OWNER/NAME on the Hub (hf://OWNER/NAME), or a folder that was pushed to')
    parser.add_argument('--out', required=True, metavar='DIR', help='the folder to write')
    parser.add_argument('--revision', metavar='R', help='branch, tag or commit on the Hub; default: its main branch')
    parser.add_argument('--force', action='store_true', help='replace DIR, if a model was pulled into it')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='also take files that may run code when they are read: they may run any command with your rights',
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
            f'{pulled.kind} of {counted(len(pulled.files), "file")}, {size:.1f} MiB, as they were pushed -> {args.out}',
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
