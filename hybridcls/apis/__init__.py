"""How the library is used from outside training: inference, export, benchmarks."""
from .timing import Timing, interleaved_timings, timing_table

__all__ = ['Timing', 'interleaved_timings', 'timing_table']
