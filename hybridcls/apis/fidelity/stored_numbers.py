"""The stored numbers of the official codes, produced by ``tools/fidelity_numbers.py``."""

from functools import cache
from importlib.resources import files

import numpy as np

__all__ = ['FILE_NAME', 'stored_numbers']

FILE_NAME = 'official_numbers.npz'


@cache
def _all_numbers() -> dict[str, np.ndarray]:
    with files(__package__).joinpath(FILE_NAME).open('rb') as file, np.load(file, allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


def stored_numbers(case: str) -> dict[str, np.ndarray]:
    """Return the stored arrays of a case by the names of its outputs.

    Args:
        case (str): Its name.

    Raises:
        KeyError: If none are stored.
    """
    found = {key.rpartition('/')[2]: value for key, value in _all_numbers().items() if key.rpartition('/')[0] == case}
    if not found:
        raise KeyError(
            f'stored_numbers: expected numbers of the case {case!r} in {FILE_NAME}, got none. Run '
            'tools/fidelity_numbers.py, or give the case an equation to compare with.'
        )
    return found
