"""The command in this process, which saves the seconds of its imports."""

import sys
from unittest.mock import patch

from hybridcls.cli.main import main
from hybridcls.engine.runner.global_instances import isolated_globals


def run_command(*arguments):
    """Run ``hybridcls ARGUMENTS``, and return its exit code."""
    with patch.object(sys, 'argv', ['hybridcls', *map(str, arguments)]), isolated_globals():
        try:
            main()
        except SystemExit as ended:
            return ended.code or 0
    raise AssertionError('the command ends with an exit code')
