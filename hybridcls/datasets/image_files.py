"""List the image files below a folder, and count the other files."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mmengine.fileio import LocalBackend, get_file_backend

from .image_formats import missing_decoder

__all__ = [
    'BESIDE_CLASSES',
    'BROKEN',
    'DROPPED',
    'HIDDEN',
    'NEEDS',
    'UNREADABLE',
    'FilesBelow',
    'files_below',
    'is_hidden',
]

# Reasons for which a file is left out, besides its extension; an extension is followed by NEEDS and what installs its
# decoder.
HIDDEN, BROKEN, BESIDE_CLASSES = 'hidden', 'broken links', 'images beside the class folders'
UNREADABLE, DROPPED = 'unreadable', 'dropped by decision'
NEEDS = ', which needs '


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
        folder (str): The folder. Links are followed, unless they lead to a folder that they are in.
        extensions (Sequence[str]): File extensions of images, in lower case.

    Returns:
        FilesBelow: The images, and the files left out: hidden files and folders, links that are broken or
            lead in a circle, other extensions.
    """
    backend = get_file_backend(folder, enable_singleton=True)
    if isinstance(backend, LocalBackend):
        found = _walk(folder, '', (os.path.realpath(folder),))
    else:
        found = ((path, '') for path in backend.list_dir_or_file(folder, list_dir=False, recursive=True))
    images: list[str] = []
    left_out: Counter[str] = Counter()
    for path, problem in found:
        # The whole path: remote backends list the files of hidden folders.
        if any(is_hidden(part) for part in path.split(os.sep)):
            left_out[HIDDEN] += 1
        elif problem:
            left_out[problem] += 1
        elif path.lower().endswith(tuple(extensions)):
            images.append(path)
        else:
            extension = os.path.splitext(path)[1].lower()
            decoder = missing_decoder(extension)
            left_out[f'{extension or "without extension"}{f"{NEEDS}{decoder}" if decoder else ""}'] += 1
    return FilesBelow(sorted(images), left_out)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder with this name is hidden."""
    return name.startswith('.') or name == '__MACOSX'


def _walk(folder: str, above: str, around: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield each file below ``folder`` with its problem, if any; of a hidden folder only the name.

    Args:
        folder (str): Where to look.
        above (str): What stands before the names in it.
        around (tuple[str, ...]): The folder and those that it is in, without links.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f'{above}{entry.name}'
            if not entry.is_dir() or is_hidden(entry.name):
                yield path, '' if entry.is_file() or entry.is_dir() else BROKEN
                continue
            there = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(around[-1], entry.name)
            if there in around:
                yield path, 'links to a folder around them'
            else:
                yield from _walk(entry.path, f'{path}{os.sep}', (*around, there))
