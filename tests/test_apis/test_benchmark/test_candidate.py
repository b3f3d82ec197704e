"""What runs in the process of a candidate."""

import mmap
import sys
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_artifact import expected_scores, write_tiny_artifact

from hybridcls.apis.benchmark.candidate import Candidate, peak_of_process, serve


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_the_peak_of_a_call_is_its_own():
    size = 256 * 2**20  # a multiple of what is counted late: pages of each processor

    # thrice each: what else is done in this process, or with it, moves a number now and then
    found = [peak_of_process(lambda: np.ones(size, np.uint8), torch.device('cpu'))['beyond'] for _ in range(3)]
    assert 0.9 * size < max(found) < 1.5 * size
    nothing = [peak_of_process(lambda: None, torch.device('cpu'))['beyond'] for _ in range(3)]
    assert min(nothing) < 0.2 * size  # the peak before is forgotten


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_pages_that_the_system_takes_meanwhile_do_not_lower_the_peak(tmp_path):
    size = 128 * 2**20  # over 32 MiB, an array is memory of its own, not what the allocator has kept
    (tmp_path / 'file').write_bytes(bytes(size // 4))
    calls = []
    with (tmp_path / 'file').open('rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
        assert not any(pages[:: mmap.PAGESIZE])  # reads them

        def run():
            calls.append(1)
            pages.madvise(mmap.MADV_DONTNEED)
            np.ones(size, np.uint8)

        assert peak_of_process(run, torch.device('cpu'))['beyond'] > 0.9 * size
    assert 2 <= len(calls) <= 3


class Pipe:
    """The other end of a connection."""

    def __init__(self, questions):
        self.questions, self.sent = list(questions), []

    def send(self, answer):
        self.sent.append(answer)

    def recv(self):
        if not self.questions:
            raise EOFError
        return self.questions.pop(0)


def test_questions_are_answered_and_failures_are_sentences(tmp_path):
    candidate = Candidate('a', None, str(write_tiny_artifact(tmp_path / 'artifact')), torch.get_num_threads())
    image = np.full((1, 8, 8, 3), (90, 20, 160), np.uint8)
    pipe = Pipe([('answers', (image,)), ('answers', ('none',)), ('prepare', (3,)), ('run', ()), ('flops', ())])
    serve(candidate, pipe)
    assert pipe.sent[0] == (True, None)
    np.testing.assert_allclose(pipe.sent[1][1]['probabilities'][0], expected_scores((90, 20, 160)), atol=1e-6)
    assert not pipe.sent[2][0]
    assert pipe.sent[2][1]
    assert pipe.sent[3][0]
    assert 0 < pipe.sent[4][1] < 10
    assert pipe.sent[5] == (True, None)


def test_what_cannot_be_opened_says_why(tmp_path):
    pipe = Pipe([])
    serve(Candidate('a', None, str(tmp_path), 1), pipe)
    assert pipe.sent[0][0] is False
    assert str(tmp_path) in pipe.sent[0][1]


def test_memory_of_a_failed_call_goes_back_to_the_gpu_before_the_answer(tmp_path, monkeypatch):
    """The other candidates use the same GPU; what is held when the cache is emptied stays with this process."""
    pipe, events, activations = Pipe([('prepare', (1,)), ('run', ()), ('run', ())]), [], []

    def run_out():
        held = torch.zeros(3)
        activations.append(weakref.ref(held))
        raise torch.OutOfMemoryError('CUDA out of memory.')

    runner = SimpleNamespace(device=torch.device('cpu'), answers=None, flops=None, prepare=lambda size: runs.pop(0))
    runs, calls = [lambda: run_out() if calls.append(1) or len(calls) == 2 else None], []
    monkeypatch.setattr(Candidate, 'open', lambda self: runner)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'empty_cache', lambda: events.append((len(pipe.sent), activations[0]())))
    serve(Candidate('a', None, str(tmp_path), 1), pipe)
    assert [one[0] for one in pipe.sent] == [True, True, False, True]
    assert pipe.sent[2][1] == 'OutOfMemoryError: CUDA out of memory.'
    assert events == [(2, None)]  # before it is answered
