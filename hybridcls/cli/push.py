"""Push a trained model to the Hugging Face Hub or to a folder: safetensors, its config, class names and a README.

A checkpoint becomes a folder without pickles, which is a checkpoint for every command. An artifact of `hybridcls
export` and a folder of saved LoRA adapters are pushed as they are.
"""

import os
import sys
from argparse import ArgumentParser, Namespace

from hybridcls.checks import check_file, near_files

from .json_output import print_json, stdout_for_json, tell
from .quick_imports import quick_imports

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'push a model to the Hugging Face Hub or to a folder, without pickles'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        'source',
        help='checkpoint file, or work dir: its best checkpoint, else its last. Or an artifact of `hybridcls export`, '
        'or a folder of saved LoRA adapters',
    )
    parser.add_argument(
        'place',
        help='a folder (./model), or OWNER/NAME on the Hub: that is hf://OWNER/NAME, unless there is such a folder',
    )
    parser.add_argument('--results', metavar='FILE', help='JSON of `hybridcls test CHECKPOINT --json`, for the README')
    parser.add_argument('--license', metavar='NAME', help='licence of the model, as the Hub spells it: apache-2.0')
    parser.add_argument('--private', action='store_true', default=None, help='make a new repository private')
    parser.add_argument('--force', action='store_true', help='replace a folder, if a model was pushed to it')


def run(args: Namespace) -> int:
    """Push."""
    if '://' not in args.source and not os.path.exists(os.path.expanduser(args.source)):
        raise FileNotFoundError(f'push: the checkpoint {args.source!r} does not exist.{near_files(args.source)}')
    if args.results is not None:
        check_file('push', 'results', args.results, 'Type: hybridcls test CHECKPOINT --json > FILE')
    with stdout_for_json(args.json):
        with quick_imports():
            from hybridcls.apis.hub.pushing import push

        pushed = push(args.source, args.place, args.results, args.license, args.private, args.force)
        tell(pushed.why, sys.stderr)
        for note in pushed.notes:
            tell(note, sys.stderr)
        size = sum(pushed.files.values()) / 2**20
        tell(f'{len(pushed.files)} files, {size:.1f} MiB -> {pushed.commit or pushed.place}', sys.stderr)
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
