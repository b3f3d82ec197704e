"""A progress bar on stderr, if stderr is a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional

from .json_output import tell

__all__ = ['ProgressBar', 'progress_bar']


class ProgressBar:
    """A progress bar on stderr, where that is a terminal."""

    def __init__(self, progress: Optional[Any], task: Any) -> None:
        self._progress, self._task = progress, task

    def __call__(self, done: int) -> None:
        """Show that so many are done."""
        if self._progress is not None:
            self._progress.update(self._task, completed=done)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            tell(text, sys.stderr)


@contextmanager
def progress_bar(total: int, done: int) -> Iterator[ProgressBar]:
    """Show how many of ``total`` images are done; ``done`` are already."""
    if not sys.stderr.isatty() or total < 2:
        yield ProgressBar(None, None)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn('images'), BarColumn(bar_width=None), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield ProgressBar(progress, progress.add_task('', total=total, completed=done))
