"""Measure time and memory, and choose a token merging ratio by speed."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .memory import peak_memory
    from .merging_choice import MergingChoice, choose_merging
    from .timing import Timing, interleaved_timings, timing_table

__all__ = ['MergingChoice', 'Timing', 'choose_merging', 'interleaved_timings', 'peak_memory', 'timing_table']

_PLACES = dict(
    peak_memory='memory', MergingChoice='merging_choice', choose_merging='merging_choice', Timing='timing',
    interleaved_timings='timing', timing_table='timing',
)  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import an attribute on first access, so that modules without torch can be imported from here."""
    if name not in _PLACES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_PLACES[name]}'), name)


def __dir__() -> list[str]:
    """List all public names, those not yet imported included."""
    return sorted({*globals(), *__all__})
