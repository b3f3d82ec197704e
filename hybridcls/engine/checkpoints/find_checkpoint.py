"""Find the checkpoint that a path denotes; a work dir stands for one of its checkpoints."""

import os
import re
import zipfile
from pathlib import Path
from typing import NamedTuple, Optional, Union

from hybridcls.checkpoint_reading import read_checkpoint
from hybridcls.checks import listed
from hybridcls.literals import read_assignments
from hybridcls.safetensors_folder import folder_weights, sidecar_beside

from .files import check_checkpoint, is_valid_checkpoint, latest_valid_checkpoint, noted_checkpoint

__all__ = ['FoundCheckpoint', 'find_checkpoint', 'kind_of_weights']

_BEST = re.compile(r'best_(.+)_(?:epoch|iter)_(\d+)\.pth')
_PHASE = re.compile(r'(\d+)_.+')
# What a hook saved beside the weights that a test takes, which kind these are then, and its name in a sentence.
_BESIDE = {'ema_state_dict': 'ema', 'fast_state_dict': 'slow'}
_WEIGHTS = {'ema': 'the EMA weights (averaged by EMAHook)', 'slow': 'the slow weights of Lookahead'}


class FoundCheckpoint(NamedTuple):
    """A checkpoint, and the reason why it was chosen.

    Args:
        path (str): The file (or DeepSpeed's folder, or an address).
        why (str): A sentence to print first: which checkpoint, of what it is the best or the last, and whether its
            weights are averaged ones.
    """

    path: str
    why: str


def find_checkpoint(path: Union[str, Path]) -> FoundCheckpoint:
    """Choose the checkpoint that a path denotes, reading no more files than that needs.

    - A file is taken as it is, and so is an address (``https://...``).
    - Of a folder of ``hybridcls push`` or ``pull`` its ``model.safetensors`` is taken.
    - Of a work dir the best checkpoint (``save_best``; of several metrics the first) is taken, if it is valid; else the
      last valid one.
    - Of the work dir of a chain of phases, that of its last phase that has a checkpoint.

    With an EMAHook or a SlowWeightsHook the averaged weights are those of the checkpoint, and the sentence says so.

    Args:
        path (str | Path): A checkpoint or a work dir.

    Returns:
        FoundCheckpoint: Its path and the sentence.

    Raises:
        FileNotFoundError: If there is no such path, or no valid checkpoint below it.
        ValueError: If the file is damaged or is no checkpoint.
    """
    path = os.path.expanduser(os.fspath(path))
    if not os.path.isdir(path) or path.rstrip(os.sep).endswith('.pth'):  # DeepSpeed's checkpoints are folders
        check_checkpoint(path)
        return FoundCheckpoint(path, f'Checkpoint {path}{_weights_in(path)}.')
    weights = folder_weights(path)
    if weights is not None:
        return FoundCheckpoint(weights, f'Checkpoint {weights}{_weights_in(weights)}.')
    found = _in_work_dir(Path(path)) or _in_chain(Path(path))
    if found is None:
        runtime = os.path.join(path, 'runtime.py')
        advice = (
            f' An exported model predicts with its own script: python {runtime} IMAGES.'
            if os.path.isfile(runtime)
            else ''
        )
        raise FileNotFoundError(
            f'find_checkpoint: expected a checkpoint or a work dir with one, got {path!r}, which has no valid one.'
            f'{advice}{_checkpoints_below(Path(path))}'
        )
    return found


def _in_work_dir(folder: Path, of: str = '') -> Optional[FoundCheckpoint]:
    of = of or f'of {folder}'
    last = noted_checkpoint(folder)
    folders = dict.fromkeys([folder, *([last.parent] if last is not None and last.parent.is_dir() else [])])
    best = [one for one in dict.fromkeys(file for here in folders for file in here.glob('best_*.pth'))]
    best.sort(key=lambda file: file.stat().st_mtime, reverse=True)
    by_metric: dict[str, list[Path]] = {}
    for file in best:
        if (match := _BEST.fullmatch(file.name)) is not None:
            by_metric.setdefault(match[1], []).append(file)
    damaged = []
    for metric in _in_order(by_metric):
        for file in by_metric[metric]:
            if is_valid_checkpoint(file):
                others = [str(by_metric[other][0]) for other in by_metric if other != metric]
                beside = f' (the best by other metrics: {listed(others, 5)})' if others else ''
                return FoundCheckpoint(
                    str(file), f'Checkpoint {file}, the best {of} by {metric}{_weights_in(file)}{beside}.'
                )
            damaged.append(str(file))
    newest = latest_valid_checkpoint(folder)
    if newest is None:
        return None
    why = f'since {listed(damaged, 3)} is damaged' if damaged else 'which has no best one (save_best)'
    return FoundCheckpoint(newest, f'Checkpoint {newest}, the last {of}, {why}{_weights_in(newest)}.')


def _in_chain(folder: Path) -> Optional[FoundCheckpoint]:
    phases = [(int(match[1]), one) for one in folder.iterdir() if (match := _PHASE.fullmatch(one.name))]
    phases = [(number, one) for number, one in phases if any(one.glob('phase*.json'))]
    for number, phase in sorted(phases, reverse=True):
        found = _in_work_dir(phase, f'of phase {phase.name.partition("_")[2]} ({number} of {len(phases)}) of {folder}')
        if found is not None:
            return found
    return None


def _in_order(by_metric: dict[str, list[Path]]) -> list[str]:
    """Return the metrics, in the order of the run's ``save_best`` if there are several."""
    metrics = list(by_metric)
    if len(metrics) < 2:
        return metrics
    valid = next((files[0] for files in by_metric.values() if is_valid_checkpoint(files[0])), None)
    meta = (read_checkpoint(valid).get('meta') or {}) if valid else {}
    hooks = read_assignments(meta.get('cfg') or '').get('default_hooks') or {}
    wanted = (hooks.get('checkpoint') or {}).get('save_best') or []
    order = [name.replace('/', '_') for name in ([wanted] if isinstance(wanted, str) else wanted)]
    return sorted(metrics, key=lambda name: order.index(name) if name in order else len(order))


def kind_of_weights(path: Union[str, Path]) -> str:
    """Return which weights a checkpoint's state dict holds: ``'ema'``, ``'slow'`` (Lookahead), or ``'raw'``.

    Only its table of contents is read.
    """
    sidecar = sidecar_beside(path)
    if sidecar is not None:
        return str((sidecar.get('model') or {}).get('weights'))
    if not zipfile.is_zipfile(path):
        return 'raw'
    with zipfile.ZipFile(path) as archive:
        table = next((name for name in archive.namelist() if name.endswith('data.pkl')), None)
        content = archive.read(table) if table else b''
    for key, kind in _BESIDE.items():
        if b'X' + len(key).to_bytes(4, 'little') + key.encode() in content:  # how a pickle writes a string
            return kind
    return 'raw'


def _weights_in(path: Union[str, Path]) -> str:
    what = _WEIGHTS.get(kind_of_weights(path))
    return '' if what is None else f', with {what}'


def _checkpoints_below(folder: Path) -> str:
    """Name the subfolders that hold checkpoints, if the folder above the work dirs was given."""
    there = sorted({str(file.parent) for depth in ('*', '*/*') for file in folder.glob(f'{depth}/*.pth')})
    return f' Below it there are checkpoints in {listed(there, 5)}: type one of these.' if there else ''
