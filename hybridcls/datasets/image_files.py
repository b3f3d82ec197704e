"""List the image files below a folder, and count the other files."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mmengine.fileio import LocalBackend, get_file_backend

from .image_formats import missing_decoder

__all__ = ['FilesBelow', 'files_below', 'is_hidden']


class FilesBelow(NamedTuple):
    """The files below a folder.

    Args:
        images (list[str]): Paths of the image files, relative to the folder, sorted.
        left_out (Counter[str]): Number of other files by reason; a hidden folder counts as one.
    """

    images: list[str]
    left_out: Counter[str]


def files_below(folder: str, extensions: Sequence[str]) -> FilesBelow:
    """List the images below a folder, on any of mmengine's backends, at any depth.

    Args:
        folder (str): The folder. Links are followed.
        extensions (Sequence[str]): File extensions of images, in lower case.

    Returns:
        FilesBelow: The images, and the files left out: hidden files and folders, broken links, other extensions.
    """
    backend = get_file_backend(folder, enable_singleton=True)
    if isinstance(backend, LocalBackend):
        found = _walk(folder)
    else:
        found = ((path, True) for path in backend.list_dir_or_file(folder, list_dir=False, recursive=True))
    images: list[str] = []
    left_out: Counter[str] = Counter()
    for path, is_there in found:
        # The whole path: remote backends list the files of hidden folders.
        if any(is_hidden(part) for part in path.split(os.sep)):
            left_out['hidden'] += 1
        elif not is_there:
            left_out['broken links'] += 1
        elif path.lower().endswith(tuple(extensions)):
            images.append(path)
        else:
            extension = os.path.splitext(path)[1].lower()
            decoder = missing_decoder(extension)
            left_out[f'{extension or "without extension"}{f", which needs {decoder}" if decoder else ""}'] += 1
    return FilesBelow(sorted(images), left_out)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is left out."""
    return name.startswith('.') or name == '__MACOSX'


def _walk(folder: str, above: str = '') -> Iterator[tuple[str, bool]]:
    """Yield each file below ``folder`` and whether it exists; of a hidden folder only its name."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f'{above}{entry.name}'
            if entry.is_dir() and not is_hidden(entry.name):
                yield from _walk(entry.path, f'{path}{os.sep}')
            else:
                yield path, entry.is_file() or entry.is_dir()
