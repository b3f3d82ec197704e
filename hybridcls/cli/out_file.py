"""``--out FILE``: write a file atomically, and replace an existing one only with ``--force``."""

import os
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Optional

__all__ = ['add_out_option', 'check_out', 'unfinished_out', 'write_out']


def add_out_option(parser: ArgumentParser, help: str) -> None:
    """Add ``--out`` and ``--force``."""
    parser.add_argument('--out', metavar='FILE', help=help)
    parser.add_argument('--force', action='store_true', help='overwrite FILE if it exists')


def check_out(caller: str, path: Optional[str], force: bool, suffixes: Sequence[str]) -> None:
    """Raise unless a file may be written, before anything is computed for it.

    Args:
        caller (str): Name that errors start with.
        path (str, optional): ``--out``; nothing is checked without it.
        force (bool): Whether a file that is there may be replaced.
        suffixes (Sequence[str]): How its name may end: ``'.json'`` and the like.

    Raises:
        ValueError: If its name ends otherwise.
        IsADirectoryError, FileExistsError: If something is there.
        PermissionError: If its folder cannot be written.
    """
    if path is None:
        return
    if not path.endswith(tuple(suffixes)):
        raise ValueError(f'{caller}: expected --out to end in {" or ".join(suffixes)}, got {path!r}.')
    if os.path.isdir(path):
        raise IsADirectoryError(f'{caller}: --out {path!r} is a folder. Name a file in it.')
    if os.path.exists(path) and not force:
        raise FileExistsError(f'{caller}: --out {path!r} exists. Add --force to replace it, or choose another name.')
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise PermissionError(f'{caller}: --out {path!r} cannot be written: {folder!r} is not a writable folder.')


def write_out(content: bytes, path: str) -> None:
    """Write the file atomically; the first of several processes does it."""
    from mmengine.dist import is_main_process

    from hybridcls.engine.checkpoints.files import atomic_write

    if is_main_process():
        atomic_write(content, path)


@contextmanager
def unfinished_out(path: str) -> Iterator[str]:
    """Yield the name of a file for a block to write, which takes the name ``path`` when the block is done.

    In several processes the first one's counts.

    Raises:
        OSError: If it cannot be written, for lack of room say; what was there before is untouched.
    """
    from mmengine.dist import is_main_process

    folder, name = os.path.split(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    unfinished = os.path.join(folder, f'.unfinished_{name}')  # it ends as the name does
    try:
        yield unfinished
        if is_main_process():
            os.replace(unfinished, path)
    except OSError as error:
        if error.filename not in (None, unfinished):
            raise
        raise OSError(
            error.errno, f'--out {path} could not be written ({error.strerror}); nothing has changed'
        ) from error
    finally:
        if is_main_process() and os.path.exists(unfinished):
            os.remove(unfinished)
