"""Find the file of weights that a path denotes: a file, or a folder in the layout of the Hugging Face Hub."""

import os
from pathlib import Path
from typing import Union

from hybridcls.checks import check_file, listed, near_files

__all__ = ['weights_file']

# As timm names and looks for them; the first that is there counts.
_NAMES = (
    'model.safetensors', 'pytorch_model.bin', 'pytorch_model.pth', 'model.pth', 'open_clip_model.safetensors',
    'open_clip_pytorch_model.bin', 'open_clip_pytorch_model.pth',
)  # fmt: skip
_SUFFIXES = ('.safetensors', '.pth', '.pt', '.bin')


def weights_file(caller: str, path: Union[str, Path]) -> str:
    """Return the file of weights that a path denotes.

    Args:
        caller (str): Name used as the error prefix.
        path (str | Path): A file; an address (``https://...``); a folder as the Hub has it (``model.safetensors`` or
            ``pytorch_model.bin``, beside ``config.json``) or with a single file of weights; a model in the Hub's local
            cache (``models--timm--NAME``), of which the snapshot counts that ``refs/main`` names, or the newest.

    Raises:
        FileNotFoundError: If there is none; names near files, or what the folder holds.
        ValueError: If a folder holds several.
    """
    path = os.path.expanduser(os.fspath(path))
    if '://' in path:
        return path
    if not os.path.isdir(path):
        check_file(caller, 'checkpoint_path', path)
        return path
    folder = _snapshot(Path(path))
    named = [folder / name for name in _NAMES if (folder / name).is_file()]
    others = sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES and file.is_file())
    if named or len(others) == 1:
        return str((named or others)[0])
    expected = f'{caller}: expected one file of weights ({", ".join(_NAMES[:2])}) in checkpoint_path={path!r}, got'
    if others:
        names = listed((file.name for file in others), 5)
        raise ValueError(f'{expected} {len(others)}: {names}. Name the one that is meant.')
    there = listed(sorted(file.name for file in folder.iterdir()), 5) or 'an empty folder'
    raise FileNotFoundError(f'{expected} {there}.{near_files(str(folder / _NAMES[0]))}')


def _snapshot(folder: Path) -> Path:
    """Return the folder of files below a model in the Hub's local cache; any other folder itself."""
    snapshots = folder / 'snapshots'
    if not snapshots.is_dir():
        return folder
    note = folder / 'refs' / 'main'
    named = snapshots / note.read_text(encoding='utf8').strip() if note.is_file() else None
    if named is not None and named.is_dir():
        return named
    there = sorted((one for one in snapshots.iterdir() if one.is_dir()), key=lambda one: one.stat().st_mtime)
    return there[-1] if there else folder
