"""Timings: order, ratios within a round, and the interpreter's state afterwards, with a fake clock."""

import gc
import time

import pytest

from hybridcls.apis import timing
from hybridcls.apis.timing import Timing, interleaved_timings, timing_table


def test_order_is_reversed_every_second_round():
    calls = []
    interleaved_timings(dict(a=lambda: calls.append('a'), b=lambda: calls.append('b')), rounds=2, warmup=1)
    assert ''.join(calls) == 'ba' + 'ab' + 'ba'
    assert gc.isenabled()


def test_ratio_is_within_the_same_round(monkeypatch):
    # The machine slows down tenfold after the first round; b always takes twice as long as a.
    seconds = iter([1.0, 2.0, 20.0, 10.0, 10.0, 20.0])
    monkeypatch.setattr(timing, '_seconds_of', lambda function, clock: next(seconds))
    timings = interleaved_timings(dict(a=None, b=None), rounds=3, warmup=0)
    assert timings['b'] == Timing(20.0, 2.0, (2.0, 2.0))
    assert timings['a'].ratio == 1.0


def test_any_reference_and_all_names_in_the_table(monkeypatch):
    seconds = iter([1.0, 4.0])
    monkeypatch.setattr(timing, '_seconds_of', lambda function, clock: next(seconds))
    timings = interleaved_timings(dict(ours=None, plain=None), reference='plain', rounds=1, warmup=0)
    assert timings['ours'].ratio == 0.25
    assert 'ours' in timing_table(timings, 'form')
    assert '0.250' in timing_table(timings)


def test_zero_rounds_are_an_error():
    with pytest.raises(ValueError, match=r'expected rounds in .*, got 0'):
        interleaved_timings(dict(a=print), rounds=0)


def test_process_clock():
    timings = interleaved_timings(
        dict(busy=lambda: sum(range(300_000)), idle=lambda: time.sleep(0.02)),
        rounds=3,
        warmup=0,
        clock=time.process_time,
    )
    assert timings['idle'].ratio < 0.5
