"""Show on the console what concerns the user; everything else is in the log file."""

import inspect
import logging
import sys
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from types import FrameType
from typing import Any, Optional, Union

from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hybridcls.compat.mmengine.runner import AdaptedRunner

__all__ = ['Bars', 'ConsoleRunner', 'track']

# Packages whose messages below a warning are for the log file alone.
_FOR_THE_FILE = {'mmengine', 'mmcv', 'mmpretrain', 'timm'}
# Messages of any level about the inside of mmengine, which a user can do nothing about.
_INSIDE = {('mmengine', 'file_client.py')}


class ConsoleFilter(logging.Filter):
    """Pass messages of hybridcls and of the user's own code, and warnings that a user can act on."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide by the caller: the first frame below the logging functions."""
        here = inspect.currentframe()
        frame: Optional[FrameType] = here and here.f_back
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            parts = path.parts
            if 'logging' not in parts[-2:-1] and path.name != 'logging.py':
                package = next((part for part in reversed(parts) if part in _FOR_THE_FILE), '')
                inside = (package, path.name) in _INSIDE
                return not inside and (record.levelno >= logging.WARNING or not package)
            frame = frame.f_back
        return True


class ConsoleRunner(AdaptedRunner):
    """mmengine's Runner with a filtered console; ``log_level='DEBUG'`` shows everything."""

    def build_logger(
        self, log_level: Union[int, str] = 'INFO', log_file: Optional[str] = None, **kwargs: Any
    ) -> MMLogger:
        """Build mmengine's logger, with a filter on what goes to the console."""
        logger = super().build_logger(log_level, log_file, **kwargs)
        if log_level not in ('DEBUG', logging.DEBUG):
            for handler in logger.handlers:
                if type(handler) is logging.StreamHandler and not any(
                    isinstance(one, ConsoleFilter) for one in handler.filters
                ):
                    handler.addFilter(ConsoleFilter())
        return logger


class Bars:
    """Progress bars on a terminal, above which the log continues; none without a terminal.

    Args:
        logger (MMLogger): Its console handlers write above the bars while they are shown.
    """

    shown: Optional['Bars'] = None

    def __init__(self, logger: MMLogger) -> None:
        self._handlers = [handler for handler in logger.handlers if type(handler) is logging.StreamHandler]
        self._streams = [handler.stream for handler in self._handlers]
        self.progress = Progress(
            TextColumn('{task.description}'),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn('{task.fields[told]}'),
            transient=True,
        )

    @staticmethod
    def are_shown_here() -> bool:
        """Return whether this process writes to a terminal."""
        return is_main_process() and sys.stdout.isatty()

    def start(self) -> None:
        """Show the bars."""
        self.progress.start()
        for handler in self._handlers:
            handler.setStream(sys.stdout)  # rich has put its own in place, which prints above the bars
        Bars.shown = self

    def stop(self) -> None:
        """Remove the bars."""
        for handler, stream in zip(self._handlers, self._streams, strict=True):
            handler.setStream(stream)
        self.progress.stop()
        Bars.shown = None


def track(iterable: Iterable[Any], description: str) -> Iterator[Any]:
    """Yield the items of ``iterable``, with a progress bar where bars are shown."""
    bars = Bars.shown
    if bars is None:
        yield from iterable
        return
    total = len(iterable) if isinstance(iterable, Sized) else None
    task = bars.progress.add_task(description, total=total, told='')
    try:
        for one in iterable:
            yield one
            bars.progress.advance(task)
    finally:
        bars.progress.remove_task(task)
