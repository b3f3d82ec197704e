"""Run a subcommand of ``hybridcls``, also as ``python -m hybridcls``.

Exit codes: 0 success, 1 the subcommand found a problem, 2 user error (one line), 3 a bug (a traceback), 130
interrupted. Nothing slow is imported before a subcommand runs.
"""

import os
import sys
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Optional

from hybridcls.command_line import TRACEBACK_VARIABLE, explain_error, run_tool
from hybridcls.version import __version__

from . import explain, migrate

__all__ = ['SUBCOMMANDS', 'main', 'parse_args']

SUBCOMMANDS = {'explain': explain, 'migrate': migrate}
"""Modules with ``HELP``, ``add_arguments(parser)`` and ``run(args)``, which returns the exit code."""


def parse_args(arguments: Optional[Sequence[str]] = None) -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(prog='hybridcls', description='Inspect and rewrite the configs of image classifiers.')
    parser.add_argument('--version', action='version', version=f'hybridcls {__version__}')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, command in SUBCOMMANDS.items():
        own = commands.add_parser(name, help=command.HELP, description=(command.__doc__ or '').split('\n')[0])
        command.add_arguments(own)
        own.add_argument('--json', action='store_true', help='one JSON object on stdout; everything else on stderr')
        own.add_argument('--traceback', action='store_true', help='show where an error was raised')
    return parser.parse_args(arguments)


def main() -> None:
    """Run the subcommand, and end the process with its exit code."""
    args = parse_args()
    if args.traceback:
        os.environ[TRACEBACK_VARIABLE] = '1'
    codes = []
    try:
        run_tool(lambda: codes.append(SUBCOMMANDS[args.command].run(args)))
    except BrokenPipeError:  # the reader of stdout, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        codes = [0]
    except Exception as error:
        traceback.print_exc()
        codes = [3 if explain_error(error) is None else 2]
    sys.exit(codes[0])
