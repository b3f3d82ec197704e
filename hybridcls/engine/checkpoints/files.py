"""Write checkpoint files atomically, and check them before they are read."""

import errno
import os
import re
import zipfile
from pathlib import Path
from typing import BinaryIO, Optional, Union

from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import print_log

from hybridcls.checks import has_raw_bytes
from hybridcls.compat.torch import RunsCodeError, read_torch_file
from hybridcls.old_modules import answer_old_names

__all__ = [
    'FULL_DISK', 'AtomicLocalBackend', 'check_checkpoint', 'check_writable', 'is_valid_checkpoint',
    'latest_valid_checkpoint', 'atomic_write', 'noted_checkpoint',
]  # fmt: skip

_UNFINISHED = '.unfinished'
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)  # error numbers


def atomic_write(data: bytes, path: Union[str, Path]) -> None:
    """Write a file atomically: at any moment its name refers to the complete old or the complete new content.

    The bytes go to ``.NAME.unfinished`` beside it, reach the disk, and take the name in one step. A process that is
    killed leaves at most the unfinished file, which the next write replaces.

    Args:
        data (bytes): All of the content.
        path (str | Path): Where to. Its folder is made if it is missing.

    Raises:
        OSError: If it cannot be written, for lack of room or rights; what was there before is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'.{path.name}{_UNFINISHED}')
    try:
        with open(unfinished, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        kept = ' Its earlier content is unchanged.' if path.exists() else ''
        advice = ' Free space there, or name another disk.' if error.errno in FULL_DISK else ''
        raise OSError(error.errno, f'{path} could not be written ({error.strerror}).{kept}{advice}') from error
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Flush the folder, so that the new name is on disk; file systems that cannot do this write it a little later."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


@register_backend('hybridcls_atomic')
class AtomicLocalBackend(LocalBackend):
    """mmengine's local file backend, which writes by :func:`atomic_write`."""

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        """Write ``obj`` to ``filepath`` atomically."""
        atomic_write(obj, filepath)


def remove_unfinished(folder: Union[str, Path]) -> None:
    """Remove the temporary files of interrupted writes in ``folder``."""
    for path in Path(folder).glob(f'.*{_UNFINISHED}'):
        path.unlink(missing_ok=True)


def is_valid_checkpoint(path: Union[str, Path]) -> bool:
    """Return whether ``path`` is a complete checkpoint.

    torch writes zip files: one that is cut short lacks its table of contents, one with changed bytes has a wrong
    checksum. Its files before torch 1.6, and .safetensors, are read. A folder (DeepSpeed writes those) is taken as it
    is.
    """
    path = Path(path)
    if path.is_dir():
        return True
    if not path.is_file():
        return False
    try:
        with open(path, 'rb') as file:
            start = file.read(2)
            if start == b'PK':
                return _is_valid_zip(file)
            if path.suffix == '.safetensors':
                from safetensors import safe_open

                with safe_open(path, 'pt') as weights:  # compares the sizes in its header with that of the file
                    return weights.keys() is not None
            file.seek(0)
            if start[:1] == b'\x80':
                read_torch_file(file)
                return True
    except RunsCodeError:
        return True  # all of its bytes are there; it is refused when it is read
    except Exception:  # torch, pickle, zip and safetensors have one each for every kind of damage
        return False
    return False


def _is_valid_zip(file: BinaryIO) -> bool:
    import torch

    with zipfile.ZipFile(file) as archive:
        if not any(name.endswith('data.pkl') for name in archive.namelist()):
            return False
        # Checksums may be switched off in torch; then the table of contents has to do.
        checked = getattr(torch.serialization, 'get_crc32_options', lambda: True)()
        return not checked or archive.testzip() is None


def noted_checkpoint(work_dir: Union[str, Path]) -> Optional[Path]:
    """Return the last checkpoint of a training, as the note ``last_checkpoint`` in its work dir names it.

    A file of this name beside the note comes first: a work dir that was copied or moved has its own checkpoints, and
    those where it was before may be of a training that went on. Else it is in another folder (``out_dir`` of the hook).

    Args:
        work_dir (str | Path): The folder of a training.

    Returns:
        Path | None: The checkpoint, which may be missing or damaged; None without a note.
    """
    note = Path(work_dir, 'last_checkpoint')
    last = Path(note.read_text(encoding='utf8').strip() if note.is_file() else '')
    beside = Path(work_dir, last.name)
    return None if not last.name else beside if beside.exists() else last


def latest_valid_checkpoint(work_dir: Union[str, Path]) -> Optional[str]:
    """Find the checkpoint to resume: the last one, or the newest valid one before it.

    Args:
        work_dir (str | Path): Where ``last_checkpoint``, written by a CheckpointHook, names the last one. Folders that
            were moved are no obstacle: a checkpoint is looked for in ``work_dir`` too.

    Returns:
        str or None: Its path, or None if there is no valid checkpoint. What was passed over is named in a warning.
    """
    work_dir = Path(work_dir)
    last = noted_checkpoint(work_dir)
    candidates = [] if last is None else [last]
    folders = dict.fromkeys([work_dir, *(path.parent for path in candidates)])
    numbered = [
        (int(match.group(1)), path)
        for folder in folders
        if folder.is_dir()
        for path in folder.glob('*.pth')
        if not path.name.startswith('best_') and (match := re.search(r'(\d+)\.pth$', path.name))
    ]
    candidates += [path for _, path in sorted(numbered, key=lambda entry: entry[0], reverse=True)]
    damaged: list[str] = []
    for path in dict.fromkeys(candidates):
        if not path.exists():
            continue
        if is_valid_checkpoint(path):
            missing = last is not None and path.name != last.name
            if damaged or missing:
                what = ', '.join(damaged) + ' is damaged' if damaged else f'{last} is missing'
                print_log(f'{what}; continuing from {path}, the newest valid checkpoint.', 'current', level=30)
            return str(path)
        damaged.append(str(path))
    if damaged:
        print_log(
            f'No valid checkpoint in {work_dir} (damaged: {", ".join(damaged)}): starting from the beginning.',
            'current',
            level=30,
        )
    return None


def check_writable(folder: Union[str, Path]) -> None:
    """Create ``folder`` and check that it is writable, before hours of work depend on it.

    Raises:
        PermissionError: If it cannot be made or written; names the key that changes it.
        ValueError: If its path is not UTF-8, which the files in it could not name.
    """
    folder = Path(folder)
    advice = 'Choose another with --work-dir (or the key work_dir).'
    if has_raw_bytes(os.path.abspath(folder)):
        raise ValueError(
            f'The work dir {os.path.abspath(folder)!r} cannot be used: its path is not UTF-8. {advice} If the path '
            'looks right to you, set LANG=C.UTF-8.'
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f'.writable_{os.getpid()}'
        probe.write_bytes(b'')
        probe.unlink()
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(
            f'The work dir {str(folder)!r} cannot be used: {error.strerror} ({error.filename}). {advice}'
        ) from error
    except OSError as error:
        raise PermissionError(f'The work dir {str(folder)!r} cannot be written ({error.strerror}). {advice}') from error


def check_checkpoint(path: str) -> None:
    """Raise unless ``path`` is a valid checkpoint; URLs such as ``https://`` are left to their loader."""
    if '://' in path:
        return
    if not os.path.exists(path):
        folder = Path(path).parent
        there = sorted(p.name for p in folder.glob('*.pth'))[:10] if folder.is_dir() else []
        hint = f' In {folder} there are: {", ".join(there)}.' if there else ''
        where = '' if os.path.isabs(path) else f' (looked for {os.path.abspath(path)})'
        raise FileNotFoundError(f'The checkpoint {path!r} does not exist{where}.{hint}')
    if os.path.isfile(path):
        with open(path, 'rb'):  # one that may not be read is not damaged
            pass
    if not is_valid_checkpoint(path):
        raise ValueError(
            f'The file {path!r} is not a valid checkpoint: it is damaged or incomplete, or not a checkpoint at all. '
            'Take another one, or train again.'
        )


answer_old_names(globals())
