"""Read lists of genuine and impostor pairs of images."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import torch
from torch import Tensor

from hybridcls.checks import check_file, decode_text, did_you_mean

__all__ = ['VerificationPairs', 'positions_of', 'read_pairs']


class VerificationPairs(NamedTuple):
    """Pairs of images, by name.

    Args:
        first (list[str]): The first image of each pair.
        second (list[str]): The second.
        same (Tensor): Whether they show the same identity, bool (P,).
    """

    first: list[str]
    second: list[str]
    same: Tensor


def read_pairs(caller: str, path: str) -> VerificationPairs:
    """Read a file of pairs.

    - One pair a line, ``first second same``, with ``same`` 1 or 0. Names are the ends of paths, as long as they are
      unique (``anna/3.png``); or, for images without a path, their indices in the dataset.
    - LFW's ``pairs.txt``: a first line ``10 300``, then ``name 1 4`` for two images of one person and
      ``name 1 other 2`` for two persons, short for ``name/name_0001`` and so on, of any file type.

    A line is split at tabs if it has one, else at commas, else at spaces: separate names with spaces by tabs or commas.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If a line has another form, or the pairs are all of one kind.
    """
    check_file(caller, 'pairs', path)
    text = decode_text(caller, path, Path(path).read_bytes())
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    start = lines[0][1].split() if lines else []
    is_lfw = 0 < len(start) <= 2 and all(word.isdecimal() for word in start)
    if is_lfw:
        del lines[0]
    first, second, same = [], [], []
    for number, line in lines:
        words = [word.strip() for word in line.split(next((mark for mark in '\t,' if mark in line), None))]
        if is_lfw and len(words) in (3, 4) and words[1].isdecimal() and words[-1].isdecimal():
            first.append(_lfw_name(words[0], words[1]))
            second.append(_lfw_name(words[-2] if len(words) == 4 else words[0], words[-1]))
            same.append(len(words) == 3)
        elif not is_lfw and len(words) == 3 and all(words) and words[2] in ('0', '1'):
            first.append(words[0])
            second.append(words[1])
            same.append(words[2] == '1')
        else:
            expected = "'name 1 4' or 'name 1 other 2'" if is_lfw else "'first second 1' or 'first second 0'"
            raise ValueError(
                f'{caller}: expected {expected} in line {number} of pairs={path!r}, got {line!r}. Separate '
                'names with spaces by tabs or commas.'
            )
    if len({*same}) < 2:
        raise ValueError(
            f'{caller}: expected genuine and impostor pairs in pairs={path!r}, got {sum(same)} and '
            f'{len(same) - sum(same)}.'
        )
    return VerificationPairs(first, second, torch.tensor(same))


def positions_of(caller: str, queries: Sequence[str], names: Sequence[str]) -> Tensor:
    """Find the images of pairs among the evaluated images.

    Args:
        caller (str): Name used as the error prefix.
        queries (Sequence[str]): Ends of paths, in whole parts; without a file extension, any matches.
        names (Sequence[str]): Paths, or indices as strings, of the evaluated images.

    Returns:
        Tensor: int64, a position in ``names`` for each name of ``queries``.

    Raises:
        ValueError: If an image is missing, or a name is ambiguous.
    """
    parts = [PurePosixPath(name.replace('\\', '/')).parts for name in names]
    known: dict[tuple[int, bool], dict[tuple[str, ...], list[int]]] = {}
    positions = []
    for name in queries:
        query = PurePosixPath(name.replace('\\', '/')).parts
        with_type = bool(PurePosixPath(query[-1]).suffix)
        kind = (len(query), with_type)
        if kind not in known:
            table = known[kind] = {}
            for position, path in enumerate(parts):
                table.setdefault(_ending(path, *kind), []).append(position)
        found = known[kind].get(query, [])
        if len(found) != 1:
            several = ' and '.join(names[position] for position in found[:2])
            hint = (
                f' matches {several}; write more of the path'
                if found
                else f' is not among the {len(names)} evaluated images.{did_you_mean(name, names[:5000])}'
                f' The first of them is {names[0] if names else None!r}'
            )
            raise ValueError(f'{caller}: {name!r} of the pairs{hint}.')
        positions.append(found[0])
    return torch.tensor(positions)


def _ending(path: tuple[str, ...], length: int, with_type: bool) -> tuple[str, ...]:
    path = path[-length:]
    return path if with_type or not path else (*path[:-1], PurePosixPath(path[-1]).stem)


def _lfw_name(person: str, number: str) -> str:
    return f'{person}/{person}_{int(number):04d}'
