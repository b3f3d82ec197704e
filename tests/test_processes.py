"""processes.py: the helper for multi-process tests reports how its processes end."""

import os
import signal
import time

import pytest
from processes import run_process, run_processes


def fail_in_one(rank):
    if rank == 1:
        raise RuntimeError('no luck')
    time.sleep(200)  # as for a message of the other process


def note(rank, folder):
    (folder / str(rank)).write_text(f'{os.environ["RANK"]} of {os.environ["WORLD_SIZE"]}')


def kill_oneself():
    print('about to')
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.dist
def test_failing_process_ends_all_with_its_traceback():
    began = time.monotonic()
    with pytest.raises(AssertionError, match='ended with') as caught:
        run_processes(fail_in_one, count=2)
    assert 'RuntimeError: no luck' in str(caught.value)
    assert time.monotonic() - began < 150


@pytest.mark.dist
def test_each_process_knows_its_rank(tmp_path):
    run_processes(note, tmp_path, count=3)
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == ['0 of 3', '1 of 3', '2 of 3']


def test_exit_of_one_process():
    ended = run_process(kill_oneself)
    assert ended.status == -signal.SIGKILL
    assert ended.output == 'about to\n'
