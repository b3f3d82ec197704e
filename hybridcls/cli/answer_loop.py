"""Collect the answers of a model batch by batch, list unreadable images, and keep answers when the run ends early."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional

from hybridcls.checks import counted, is_or_are

from .json_output import tell
from .progress_bar import progress_bar
from .unfinished_answers import UnfinishedAnswers

if TYPE_CHECKING:
    from hybridcls.apis.inferencer import Answers

__all__ = ['take_answers']

_MOST_LISTED = 20


def take_answers(
    caller: str,
    answers: 'Answers',
    total: int,
    write: Callable[[list], Any],
    file: Optional[UnfinishedAnswers] = None,
) -> None:
    """Compute all answers.

    Args:
        caller (str): Name that errors start with.
        answers (Answers): Of the images.
        total (int): How many images there are.
        write (Callable): Is called with the answers of each batch.
        file (UnfinishedAnswers, optional): What ``write`` writes to: an interruption leaves a note beside it.

    Raises:
        ValueError: If no image can be read; the file is removed then.
    """
    listed = len(answers.unreadable)
    try:
        with progress_bar(total, answers.done) as advance:
            for batch in answers.batches():
                for one in answers.unreadable[listed:]:
                    listed += 1
                    if listed <= _MOST_LISTED:
                        advance.say(f'cannot be read: {one.path}: {one.reason}')
                write(batch)
                advance(answers.done)
    except BaseException as error:
        if file is not None:
            file.leave(answers.done, answers.state())
            if isinstance(error, KeyboardInterrupt):
                tell(
                    f'{counted(file.progress.done, "image", of=total)} {is_or_are(file.progress.done)} done. Type the '
                    'same command with --resume to continue.',
                    sys.stderr,
                )
        raise
    if total and len(answers.unreadable) == total:
        if file is not None:
            file.remove()
        first = answers.unreadable[0]
        raise ValueError(
            f'{caller}: none of {counted(total, "image")} can be read. The first, {first.path}: {first.reason}'
        )
    if len(answers.unreadable) > _MOST_LISTED:
        tell(f'... and {len(answers.unreadable) - _MOST_LISTED} more that cannot be read', sys.stderr)
