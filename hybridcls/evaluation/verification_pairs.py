"""Lists of pairs of images that show the same, or not."""

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
        first (list[str]): The one image of each pair.
        second (list[str]): The other.
        same (Tensor): Whether they show the same identity, bool (P,).
    """

    first: list[str]
    second: list[str]
    same: Tensor


def read_pairs(caller: str, path: str) -> VerificationPairs:
    """Read a file of pairs.

    - One pair a line, ``first second same``, with 1 or 0 at the end. Names are paths as far as they are unique
      (``anna/3.png``); or, where images have no path, their numbers in the data set.
    - LFW's ``pairs.txt``: a first line ``10 300``, then ``name 1 4`` for two images of one person and
      ``name 1 other 2``, which stand for ``name/name_0001`` and so on, of any file type.

    A line that has a tab is cut at its tabs, else one that has a comma at its commas, else at blanks; so names that
    hold blanks are written with tabs or commas between them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is none of these, or the pairs are all of one kind.
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
        elif not is_lfw and len(words) == 3 and words[2] in ('0', '1'):
            first.append(words[0])
            second.append(words[1])
            same.append(words[2] == '1')
        else:
            expected = "'name 1 4' or 'name 1 other 2'" if is_lfw else "'first second 1' or 'first second 0'"
            raise ValueError(
                f'{caller}: expected {expected} in line {number} of pairs={path!r}, got {line!r}. Between names that '
                'hold blanks write tabs or commas.'
            )
    if len({*same}) < 2:
        raise ValueError(
            f'{caller}: pairs={path!r} has {sum(same)} pairs of one identity and {len(same) - sum(same)} of '
            'two; both kinds are wanted.'
        )
    return VerificationPairs(first, second, torch.tensor(same))


def positions_of(caller: str, wanted: Sequence[str], names: Sequence[str]) -> Tensor:
    """Find images of pairs among those that were evaluated.

    Args:
        caller (str): Who asks, for the error messages.
        wanted (Sequence[str]): Ends of paths, in whole parts; without a file type any will do.
        names (Sequence[str]): Paths, or numbers as strings, of the evaluated images.

    Returns:
        Tensor: int64, a position in ``names`` for each wanted one.

    Raises:
        ValueError: If an image is missing, or a name stands for several.
    """
    parts = [PurePosixPath(name.replace('\\', '/')).parts for name in names]
    known: dict[tuple[int, bool], dict[tuple[str, ...], list[int]]] = {}
    positions = []
    for name in wanted:
        own = PurePosixPath(name.replace('\\', '/')).parts
        with_type = bool(PurePosixPath(own[-1]).suffix)
        kind = (len(own), with_type)
        if kind not in known:
            table = known[kind] = {}
            for position, path in enumerate(parts):
                table.setdefault(_ending(path, *kind), []).append(position)
        found = known[kind].get(own, [])
        if len(found) != 1:
            several = ' and '.join(names[position] for position in found[:2])
            hint = (
                f' stands for {several}; write more of the path'
                if found
                else f' is none of the {len(names)} evaluated images.{did_you_mean(name, names[:5000])}'
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
