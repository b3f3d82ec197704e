"""Add classes to an exported model from a few images each, without a training; or list them, or remove them.

A class is the mean of the embeddings of its images. The answers about the old classes stay what they are, but for the
images that a new class takes: held-out images of the old classes (--data, or those of the export) say how many of
theirs these are, and keep the share below --steal. The exit code is 1 if an image cannot be read. DIR/enroll.py does
the same without hybridcls.
"""

from argparse import ArgumentParser, Namespace

from .json_output import print_json, stdout_for_json
from .quick_imports import quick_imports

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'add classes to an exported model from a few images each'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument('folder', metavar='DIR', help='artifact, of hybridcls export')
    parser.add_argument(
        'classes', nargs='*', metavar='NAME=IMAGES', help='a new class, and a folder, a pattern or files'
    )
    parser.add_argument('--data', metavar='FOLDER', help='held-out images of the old classes, in a folder for each')
    parser.add_argument(
        '--train', metavar='FOLDER', help='other images of them, such as those of the training, for better class means'
    )
    parser.add_argument(
        '--steal',
        type=float,
        metavar='SHARE',
        help='of later images of the old classes that all new ones may take; default: 0.02',
    )
    parser.add_argument('--force', action='store_true', help='enroll a class again that is enrolled')
    parser.add_argument('--remove', nargs='+', metavar='NAME', help='take enrolled classes out again')
    parser.add_argument('--list', action='store_true', help='show the enrolled classes')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='run the code in the artifact, if it contains some: it may run any command with your rights',
    )


def run(args: Namespace) -> int:
    """Enroll, list or remove; return 1 if an image cannot be read."""
    with stdout_for_json(args.json), quick_imports():
        from hybridcls.apis.artifact.artifact_folder import check_no_program
        from hybridcls.apis.artifact.shipped.enroll import perform
        from hybridcls.apis.artifact.shipped.runtime import Model

        check_no_program('enroll', args.folder, args.trust_checkpoint)
        done = perform(args, Model)
    if args.json:
        print_json(dict(command='enroll', **done))
    return 1 if done['unreadable'] else 0
