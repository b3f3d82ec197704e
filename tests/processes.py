"""Several processes for a test, without paying for their imports: one server a test run imports all, and forks them.

An interpreter that imports PyTorch, mmpretrain and hybridcls costs 5 seconds of CPU time before it does anything. The
server of ``multiprocessing``'s start method *forkserver* has done so and nothing else: its children are as clean as a
new interpreter, and start in milliseconds.
"""

import gc
import multiprocessing
import os
import random
import runpy
import socket
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from quick_trainings import leave_out

TOOLS = Path(__file__).resolve().parents[1] / 'tools'
PROCESSES = multiprocessing.get_context('forkserver')
PROCESSES.set_forkserver_preload(
    [
        'hybridcls',  # first: it keeps transformers out of mmengine's imports
        'pytest',
        'sklearn.datasets',
        'matplotlib.backends.backend_agg',  # each Runner has a figure
        'matplotlib.figure',
        'yapf.yapflib.yapf_api',
        'torch.distributed',
        'mmpretrain.datasets',
        'mmpretrain.engine',
        'mmpretrain.evaluation',
        'mmpretrain.models',
        'mmpretrain.visualization',
        'hybridcls.datasets',
        'hybridcls.evaluation',
        'hybridcls.models',
        'hybridcls.visualization',
        'hybridcls.engine.distillation',
        'hybridcls.engine.phases',
    ]
)


def run_processes(work, *arguments, count=2, timeout=240):
    """Call ``work(rank, *arguments)`` in so many processes, and fail with what they wrote unless all return."""
    _all_of(_ended(count, timeout, work, arguments))


def run_process(work, *arguments, timeout=240):
    """Call ``work(*arguments)`` in a process; return its exit status, negative for a signal, and what it wrote."""
    return _ended(1, timeout, _without_rank, (work, *arguments))[0]


def run_tool(tool, *arguments, count=1, folder='.', timeout=240):
    """Run ``tools/<tool>`` in a folder, in several processes with ``--launcher pytorch``, as torchrun starts them.

    Returns all they wrote, and fails with it unless all end with status 0.
    """
    launcher = ['--launcher', 'pytorch'] if count > 1 else []
    command = [str(TOOLS / tool), *map(str, arguments), *launcher]
    return _all_of(_ended(count, timeout, _run_tool, (os.path.abspath(folder), command)))


class Ended(NamedTuple):
    """Exit status, and what was written to standard output and error."""

    status: int
    output: str


def _all_of(ended):
    """The outputs in one, if all went well."""
    bad = [
        f'process {rank} of {len(ended)} ended with {one.status}:\n{one.output[-3000:]}'
        for rank, one in enumerate(ended)
        if one.status
    ]
    assert not bad, '\n'.join(bad)
    return '\n'.join(one.output for one in ended)


def _ended(count, timeout, work, arguments):
    """Start the processes and wait; when one fails, do not wait for others that wait for it."""
    # The server keeps the environment that it was started with, and is not a launcher.
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '-1'}
    if count > 1:
        environment.update(
            MASTER_ADDR='127.0.0.1', MASTER_PORT=str(_free_port()), WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count)
        )
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, str(rank)) for rank in range(count)]
        processes = [
            PROCESSES.Process(target=_child, args=(work, rank, arguments, environment, str(output)))
            for rank, output in enumerate(outputs)
        ]
        for process in processes:
            process.start()
        end = time.monotonic() + timeout
        while any(process.exitcode is None for process in processes):
            if time.monotonic() > end or any(process.exitcode for process in processes):
                time.sleep(0.2)  # the others may be about to report the cause
                for process in processes:
                    process.kill()
            time.sleep(0.01)
        return [
            Ended(process.exitcode, output.read_text() if output.exists() else '')
            for process, output in zip(processes, outputs, strict=True)
        ]


def _child(work, rank, arguments, environment, output):
    gc.freeze()  # what the server has imported
    with open(output, 'w') as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.stdout, sys.stderr = os.fdopen(1, 'w', buffering=1), os.fdopen(2, 'w', buffering=1)
    os.environ.clear()
    os.environ.update(environment)
    if 'WORLD_SIZE' in environment:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    leave_out(pytest.MonkeyPatch())
    work(rank, *arguments)


def _without_rank(rank, work, *arguments):
    work(*arguments)


def _free_port():
    """A port below those that the system gives to others, who could take it before the first process listens there."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)  # no test has seeded it
        with socket.socket() as free, suppress(OSError):
            free.bind(('127.0.0.1', port))
            return port


def _run_tool(rank, folder, command):
    os.chdir(folder)
    sys.argv = command
    sys.path.insert(0, str(TOOLS))
    runpy.run_path(command[0], run_name='__main__')
