"""Run Triton's kernels on a CPU: in a process that is told so before Triton is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hybridcls


def run_interpreted(file, argument):
    """Call ``interpreted(argument)`` of a test file in such a process."""
    file = Path(file)
    folders = [Path(hybridcls.__file__).parents[1], file.parent, Path(__file__).parent]
    environment = dict(os.environ, TRITON_INTERPRET='1', PYTHONPATH=os.pathsep.join(map(str, folders)))
    command = f'import {file.stem}; {file.stem}.interpreted({str(argument)!r})'
    ended = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', command], env=environment, capture_output=True, text=True, timeout=600
    )
    if 'only 0-dimensional arrays' in ended.stderr:
        pytest.skip('the interpreter of this Triton does not work with this numpy')
    assert ended.returncode == 0, ended.stderr
