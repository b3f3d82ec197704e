"""Write the folder of an artifact under a temporary name, and move it into place when it is complete."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from hybridcls.checks import listed
from hybridcls.engine.checkpoints.files import FULL_DISK

from .shipped.runtime import FORMAT, read_sidecar
from .sidecar import SIDECAR

__all__ = ['check_no_program', 'check_out_folder', 'lost_with', 'unfinished_folder']

_UNFINISHED = '.unfinished_'


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
    if place.is_dir() and all(one.name.startswith(_UNFINISHED) for one in place.iterdir()):
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
    if not above.is_dir() or not (os.access(above, os.W_OK) or (place.is_dir() and os.access(place, os.W_OK))):
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

    What was there before is untouched until then, and if the block fails. A folder that cannot be renamed (a mounted
    one, as the volumes of containers are; the current one; one in a folder that cannot be written) is filled instead,
    its ``model.json`` last.

    Raises:
        OSError: If the disk is full, beside whatever the block raises.
    """
    place = Path(out).resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    stays = place.is_dir() and (place.is_mount() or place == Path.cwd() or not os.access(place.parent, os.W_OK))
    folder = Path(
        tempfile.mkdtemp(prefix=f'{_UNFINISHED}{place.name}_', dir=place if stays else place.parent)
    )  # on the same disk, so that no file has to be copied
    old = folder.with_name(folder.name.replace('unfinished', 'replaced'))
    try:
        yield folder
        folder.chmod(0o777 & ~_umask())
        if not place.exists():
            folder.rename(place)
        elif stays or not _renamed(place, old):
            _fill(place, folder, old)
        else:
            folder.rename(place)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        raise OSError(
            error.errno, f'{out} could not be written ({error.strerror}). Free space there, or name another disk.'
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _renamed(place: Path, old: Path) -> bool:
    """Rename a folder; return False if it is mounted from the same disk, which only this shows."""
    try:
        place.rename(old)
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.EXDEV):
            raise
        return False
    return True


def _fill(place: Path, folder: Path, old: Path) -> None:
    """Move what is in a folder to ``old``, and then the new files to it, the one that makes them an artifact last."""
    for one in [one for one in place.iterdir() if not one.name.startswith(_UNFINISHED)]:
        old.mkdir(exist_ok=True)
        shutil.move(one, old / one.name)
    for one in sorted(folder.iterdir(), key=lambda one: one.name == SIDECAR):
        shutil.move(one, place / one.name)


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
