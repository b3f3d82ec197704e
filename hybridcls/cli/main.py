"""Run a subcommand of ``hybridcls``, also as ``python -m hybridcls``.

Exit codes: 0 done, 1 the subcommand found a problem, 2 user error (one line), 3 a bug of hybridcls or of a plugin (a
traceback, also in the log that is named; the last line says whose), 75 a training that a signal has asked to end, and
that has saved (PreemptionHook), 130 interrupted.
Nothing slow is imported before a subcommand runs.
"""

import logging
import os
import sys
import tempfile
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import Any, Optional

from hybridcls.command_line import TRACEBACK_VARIABLE, explain_error, run_tool
from hybridcls.error_origin import describe_origin
from hybridcls.version import __version__

from . import (
    ablate,
    audit,
    benchmark,
    calibrate,
    demo,
    doctor,
    embed,
    enroll,
    explain,
    export,
    fidelity,
    migrate,
    predict,
    pull,
    push,
    report,
    search,
    test,
    train,
    verify,
)
from . import list as list_

__all__ = ['SUBCOMMANDS', 'main', 'parse_args', 'run_alone']

SUBCOMMANDS = {
    'train': train,
    'test': test,
    'predict': predict,
    'embed': embed,
    'search': search,
    'calibrate': calibrate,
    'report': report,
    'audit': audit,
    'benchmark': benchmark,
    'export': export,
    'demo': demo,
    'push': push,
    'pull': pull,
    'verify': verify,
    'enroll': enroll,
    'list': list_,
    'doctor': doctor,
    'ablate': ablate,
    'explain': explain,
    'fidelity': fidelity,
    'migrate': migrate,
}
"""Modules with ``HELP``, ``add_arguments(parser)`` and ``run(args)``, which returns the exit code."""


def parse_args(arguments: Optional[Sequence[str]] = None) -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(prog='hybridcls', description='Train, test and use image classifiers and embedding models.')
    parser.add_argument('--version', action='version', version=f'hybridcls {__version__}')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, command in SUBCOMMANDS.items():
        own = commands.add_parser(name, help=command.HELP, description=(command.__doc__ or '').strip())
        command.add_arguments(own)
        _add_common(own)
    return parser.parse_args(arguments)


def _add_common(parser: ArgumentParser) -> None:
    parser.add_argument(
        '--json', action='store_true', help='print one JSON object to stdout, and everything else to stderr'
    )
    parser.add_argument('--traceback', action='store_true', help='show the Python traceback of an error')


def main() -> None:
    """Run the subcommand, and end the process with its exit code."""
    args = parse_args()
    _run(SUBCOMMANDS[args.command], args)


def run_alone(command: Any, prog: str, add_arguments: Callable[[ArgumentParser], None], **defaults: Any) -> None:
    """Run a subcommand as a tool of its own, and end the process with its exit code.

    Args:
        command (module): The subcommand.
        prog (str): Name of the tool.
        add_arguments (Callable): Adds its arguments to a parser.
        defaults: Of options.
    """
    parser = ArgumentParser(prog=prog, description=(command.__doc__ or '').split('\n')[0])
    add_arguments(parser)
    _add_common(parser)
    parser.set_defaults(**defaults)
    _run(command, parser.parse_args())


def _run(command: Any, args: Namespace) -> None:
    if args.traceback:
        os.environ[TRACEBACK_VARIABLE] = '1'
    codes = []
    try:
        run_tool(lambda: codes.append(command.run(args)))
    except BrokenPipeError:  # the reader of stdout, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        codes = [0]
    except Exception as error:
        traceback.print_exc()
        codes = [2]
        if explain_error(error) is None:
            codes = [3]
            origin = describe_origin(error)
            print(f'{origin} The log with this traceback: {_written(error, origin)}', file=sys.stderr)
    sys.exit(codes[0])


def _written(error: Exception, origin: str) -> str:
    """Write the traceback and its origin into the log of the run, or into a new file; return its path."""
    text = ''.join(traceback.format_exception(error))
    files = [
        handler.baseFilename
        for logger in _loggers()
        for handler in logger.handlers
        if isinstance(handler, logging.FileHandler) and os.path.isfile(handler.baseFilename)  # or its folder was moved
    ]
    if not files:
        handle, path = tempfile.mkstemp('.log', 'hybridcls_')
        os.close(handle)
        files = [path]
    with open(files[-1], 'a', encoding='utf8', errors='backslashreplace') as log:  # a file name may be no UTF-8
        log.write(f'hybridcls {__version__}: {" ".join(sys.argv)}\n{text}{origin}\n')
    return files[-1]


def _loggers() -> list[logging.Logger]:
    if 'mmengine.logging' not in sys.modules:
        return []
    from mmengine.logging import MMLogger

    from hybridcls.compat.mmengine import instances_of

    return list(instances_of(MMLogger).values())
