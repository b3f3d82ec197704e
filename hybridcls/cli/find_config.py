"""Find a config by its path, as ``package::path``, or by the name of a shipped one, such as ``finetune/full``."""

import os
from pathlib import Path

from hybridcls import config_path
from hybridcls.checks import did_you_mean, near_files

__all__ = ['find_config', 'shipped_configs']

_BASES = '_base_'


def shipped_configs() -> dict[str, Path]:
    """Return the configs that hybridcls ships and that can be run, by name: ``'digits/ce_hybrid'``, say."""
    root = Path(config_path(''))
    files = (file for file in sorted(root.rglob('*.py')) if _BASES not in file.relative_to(root).parts)
    return {file.relative_to(root).with_suffix('').as_posix(): file for file in files}


def find_config(caller: str, name: str) -> str:
    """Find a config without reading it; a file of this path comes before a shipped config of this name.

    Args:
        caller (str): Name that errors start with.
        name (str): What the user typed. ``.py`` may be left out in the name of a shipped one.

    Returns:
        str: What ``load_config`` takes.

    Raises:
        FileNotFoundError: If there is none; names near files and near shipped configs.
    """
    package, colons, inside = name.rpartition('::')
    if os.path.isfile(name) or (colons and package != 'hybridcls'):
        return name
    shipped = shipped_configs()
    found = shipped.get(inside.removesuffix('.py'))
    if found is not None:
        return str(found)
    if os.path.isdir(name):
        raise FileNotFoundError(
            f'{caller}: config={name!r} is a folder, not a config.{near_files(name)} `hybridcls list recipes` lists '
            'the shipped configs; a folder of images is given by --data FOLDER.'
        )
    stems = {Path(one).name: one for one in reversed(shipped)}
    stem = Path(inside).name.removesuffix('.py')
    near = did_you_mean(inside.removesuffix('.py'), shipped)
    if stem in stems:
        near = f' Did you mean {stems[stem]!r}?'
    elif not near:
        near = '' if colons else near_files(name)
    looked = '' if colons else f' (looked for {os.path.abspath(name)}, and among the shipped configs)'
    raise FileNotFoundError(
        f'{caller}: config={name!r} does not exist{looked}.{near or did_you_mean(stem, stems)} `hybridcls list '
        'recipes` lists the shipped configs.'
    )
