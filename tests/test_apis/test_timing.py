"""Timings: order, ratios within a round, and that nothing of the interpreter is left changed."""

import gc
import time

import pytest

from hybridcls.apis import timing
from hybridcls.apis.timing import Timing, interleaved_timings, timing_table


def test_every_second_round_goes_backwards():
    calls = []
    interleaved_timings(dict(a=lambda: calls.append('a'), b=lambda: calls.append('b')), rounds=2, warmup=1)
    assert ''.join(calls) == 'ba' + 'ab' + 'ba'
    assert gc.isenabled()


def test_ratio_is_that_of_the_same_round(monkeypatch):
    # The machine slows down tenfold after the first round; b always takes twice as long as a.
    seconds = iter([1.0, 2.0, 20.0, 10.0, 10.0, 20.0])
    monkeypatch.setattr(timing, '_seconds_of', lambda function, clock: next(seconds))
    timings = interleaved_timings(dict(a=None, b=None), rounds=3, warmup=0)
    assert timings['b'] == Timing(20.0, 2.0, (2.0, 2.0))
    assert timings['a'].ratio == 1.0


def test_reference_may_be_any_and_the_table_names_all(monkeypatch):
    seconds = iter([1.0, 4.0])
    monkeypatch.setattr(timing, '_seconds_of', lambda function, clock: next(seconds))
    timings = interleaved_timings(dict(ours=None, plain=None), reference='plain', rounds=1, warmup=0)
    assert timings['ours'].ratio == 0.25
    assert 'ours' in timing_table(timings, 'form')
    assert '0.250' in timing_table(timings)


def test_no_round_is_an_error():
    with pytest.raises(ValueError, match=r'expected rounds in .*, got 0'):
        interleaved_timings(dict(a=print), rounds=0)


def test_the_clock_may_be_that_of_the_process_alone():
    timings = interleaved_timings(
        dict(busy=lambda: sum(range(300_000)), idle=lambda: time.sleep(0.02)),
        rounds=3,
        warmup=0,
        clock=time.process_time,
    )
    assert timings['idle'].ratio < 0.5
