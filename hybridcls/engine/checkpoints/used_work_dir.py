"""Keep a new training from mixing with an earlier one in the same work dir."""

import re
import shutil
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Union

from hybridcls.checks import listed

__all__ = ['check_unused', 'files_of_training', 'set_aside']

PREVIOUS = 'previous'
_CHECKPOINT = re.compile(r'(best_.+_)?(epoch|iter)_\d+\.pth')
# What a training with other data or another length would take for its own.
_NOTES = ('last_checkpoint', 'split*.csv', 'learning_curves.json', '*.calibration.json', 'sample_record.npz')


def files_of_training(work_dir: Union[str, Path]) -> list[Path]:
    """Return the checkpoints in a work dir and the files that belong to them; nothing if there is no checkpoint."""
    folder = Path(work_dir)
    checkpoints = [path for path in sorted(folder.glob('*.pth')) if _CHECKPOINT.fullmatch(path.name)]
    notes = [path for pattern in _NOTES for path in sorted(folder.glob(pattern))]
    has_checkpoints = bool(checkpoints) or (folder / 'last_checkpoint').is_file()  # of an out_dir elsewhere
    return [*checkpoints, *notes] if has_checkpoints else []


def check_unused(work_dir: Union[str, Path]) -> None:
    """Raise a FileExistsError if the work dir contains checkpoints of an earlier training."""
    found = files_of_training(work_dir)
    if found:
        when = datetime.fromtimestamp(max(path.stat().st_mtime for path in found)).isoformat(' ', 'seconds')
        raise FileExistsError(
            f'train: expected a work dir without a training, got {work_dir}, which holds '
            f'{listed((path.name for path in found if path.suffix == ".pth"), 3)} (of {when}). Add --resume to '
            f'continue it, --force to train again (its checkpoints are moved to {Path(work_dir, PREVIOUS)}), or '
            'choose another --work-dir.'
        )


def set_aside(work_dir: Union[str, Path], paths: Collection[Path]) -> Path:
    """Move files of an earlier training to the folder ``previous``, whose former content is moved away first.

    Args:
        work_dir (str | Path): Where they are.
        paths (Collection[Path]): What to move.

    Returns:
        Path: The folder.
    """
    folder = Path(work_dir, PREVIOUS)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in paths:
        path.rename(folder / path.name)
    return folder
