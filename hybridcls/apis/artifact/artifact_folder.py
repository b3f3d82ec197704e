"""Write the folder of an artifact under a temporary name, and move it into place when it is complete."""

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from hybridcls.checks import listed

from .shipped.runtime import FORMAT, read_sidecar
from .sidecar import SIDECAR

__all__ = ['check_no_program', 'check_out_folder', 'lost_with', 'unfinished_folder']


def check_no_program(caller: str, folder: str, trust: bool = False) -> None:
    """Raise if reading the graph could run code: files of torch.export hold pickles.

    Args:
        caller (str): Who reads it, for messages.
        folder (str): The artifact.
        trust (bool): Whether it may. Defaults to False.

    Raises:
        ValueError: If it may, or the folder is no artifact.
    """
    if not trust and read_sidecar(folder, check_files=False)['model']['format'] == 'torch_export':
        raise ValueError(
            f'{caller}: {folder} is an archive of torch.export, which may run code when it is read. If you trust who '
            'made it, add --trust-checkpoint: then it may run any command with your rights.'
        )


def check_out_folder(
    caller: str, out: str, force: bool, what: str = '--out', formats: Collection[str] = (FORMAT,)
) -> None:
    """Raise early unless the output folder can be written; ``what`` names it in messages.

    Raises:
        FileExistsError: If there is something, but for an empty folder; or, with ``force``, something whose
            ``model.json`` is not of one of the ``formats``.
        PermissionError: If its place cannot be written.
    """
    place = Path(out)
    if place.is_dir() and not any(place.iterdir()):
        pass
    elif place.exists() or place.is_symlink():
        if _format_of(place) not in formats:
            raise FileExistsError(
                f'{caller}: {what} {out!r} exists and is no {" or ".join(sorted(formats))} (by its {SIDECAR}). '
                'Choose another name.'
            )
        if not force:
            raise FileExistsError(
                f'{caller}: {what} {out!r} exists. Add --force to replace it, or choose another name.'
            )
    above = place.absolute().parent
    while not above.exists():
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise PermissionError(f'{caller}: {what} {out!r} cannot be written: {str(above)!r} is not a writable folder.')


def lost_with(out: str) -> list[str]:
    """Return a warning that the classes enrolled in an artifact are lost when it is replaced."""
    enrolled = (_sidecar_of(Path(out)) or {}).get('enrolled') or {}
    names = [one['name'] for one in enrolled.get('classes', ())]
    return (
        [f'The classes that were enrolled in {out} ({listed(names)}) go with it: enroll them again.'] if names else []
    )


@contextmanager
def unfinished_folder(out: str) -> Iterator[Path]:
    """Yield a temporary folder, which replaces ``out`` when the block is done.

    What was there before is untouched until then, and if the block fails.
    """
    place = Path(out).resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f'.unfinished_{place.name}_', dir=place.parent))
    try:
        yield folder
        folder.chmod(0o777 & ~_umask())
        if place.exists():
            old = folder.with_name(folder.name.replace('unfinished', 'replaced'))
            place.rename(old)
            folder.rename(place)
            shutil.rmtree(old)
        else:
            folder.rename(place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _format_of(folder: Path) -> Optional[str]:
    return (_sidecar_of(folder) or {}).get('format')


def _sidecar_of(folder: Path) -> Optional[dict[str, Any]]:
    try:
        sidecar = json.loads((folder / SIDECAR).read_text(encoding='utf8'))
    except (OSError, ValueError):
        return None
    return sidecar if isinstance(sidecar, dict) else None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
