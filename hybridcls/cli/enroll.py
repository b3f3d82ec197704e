"""Add classes to an exported model from a few images each, without training; or list or remove added classes.

A new class is the mean of the embeddings of its images. An image that no new class takes gets the same answer as
before. Held-out images of the old classes (--data, or those of the export) set a threshold, so that the new classes
take at most the share --steal of later images of the old classes. The exit code is 1 if an image cannot be read.
DIR/enroll.py does the same without hybridcls.
"""

from argparse import ArgumentParser, Namespace

from .json_output import print_json, stdout_for_json
from .quick_imports import quick_imports

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'add classes to an exported model from a few images each, without training'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument('folder', metavar='DIR', help='folder of an exported model (`hybridcls export`)')
    parser.add_argument(
        'classes',
        nargs='*',
        metavar='NAME=IMAGES',
        help='name of a new class, and its images: a folder, a pattern, or files separated by commas',
    )
    parser.add_argument(
        '--data',
        metavar='FOLDER',
        help='held-out images of the old classes, one folder for each class; default: the images of `export --data`',
    )
    parser.add_argument(
        '--train',
        metavar='FOLDER',
        help='other images of the old classes, such as the training images, for more accurate means',
    )
    parser.add_argument(
        '--steal',
        type=float,
        metavar='SHARE',
        help='share of later images of the old classes that all new classes together may take; default: 0.02',
    )
    parser.add_argument('--force', action='store_true', help='replace a class that is already enrolled')
    parser.add_argument('--remove', nargs='+', metavar='NAME', help='remove these enrolled classes')
    parser.add_argument('--list', action='store_true', help='list the enrolled classes')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='allow the artifact to run the code that it contains; it may run any command with your rights',
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
