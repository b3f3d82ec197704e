"""Measure time and memory, and choose a token merging ratio by speed."""

from .memory import peak_memory
from .merging_choice import MergingChoice, choose_merging
from .timing import Timing, interleaved_timings, timing_table

__all__ = ['MergingChoice', 'Timing', 'choose_merging', 'interleaved_timings', 'peak_memory', 'timing_table']
