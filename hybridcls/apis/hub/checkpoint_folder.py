"""Write a checkpoint as a folder without pickles: ``model.safetensors``, ``model.json``, and its calibration."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import torch

from hybridcls.checkpoint_reading import read_checkpoint, read_weights, weights_of
from hybridcls.checks import listed
from hybridcls.engine.checkpoints.calibration_file import calibration_path, digest_of_state, find_calibration
from hybridcls.engine.checkpoints.find_checkpoint import FoundCheckpoint, kind_of_weights
from hybridcls.engine.config.checkpoint_config import config_of_checkpoint
from hybridcls.safetensors_folder import (
    FORMAT,
    SIDECAR,
    VERSION,
    WEIGHTS,
    digest_of_file,
    sidecar_beside,
    write_safetensors,
)
from hybridcls.structures import ClassNames, recorded_version
from hybridcls.version import __version__

from .pretrained_sources import pretrained_sources

__all__ = ['files_in', 'write_checkpoint_folder']

# What is kept of `meta`: what a prediction, a test or a training that starts from the weights reads, and its record.
_KEPT = ('cfg', 'dataset_meta', 'preprocessing_version', 'epoch', 'iter', 'seed', 'time', 'experiment_name',
         'mmengine_version', 'hybridcls_version')  # fmt: skip

_ADVICE = 'Push a checkpoint of hybridcls train: whoever pulls it needs the config.'


def write_checkpoint_folder(
    found: FoundCheckpoint, folder: Path, metrics: Optional[Mapping[str, Any]] = None
) -> dict[str, Any]:
    """Write the files, and read the weights again to compare them.

    Args:
        found (FoundCheckpoint): Which checkpoint.
        folder (Path): An empty folder.
        metrics (Mapping, optional): Results of a test, by name: ``value``, ``low``, ``high``, ``unit``.

    Returns:
        dict: The content of ``model.json``.

    Raises:
        ValueError: If the checkpoint holds no config, or something that safetensors cannot hold.
    """
    content = read_checkpoint(found.path)
    cfg = config_of_checkpoint(content, found.path, _ADVICE)
    weights = weights_of(content, found.path)
    others = [name for name, value in weights.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise ValueError(f'push: expected tensors in {found.path}, got others: {listed(others, 5)}.')
    calibration = find_calibration(found.path)
    # Copies, since safetensors takes neither tensors that share memory nor those that are laid out otherwise.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    write_safetensors(tensors, folder / WEIGHTS, metadata={'format': 'pt'})
    if calibration is not None:
        shutil.copyfile(calibration.path, calibration_path(folder / WEIGHTS))
    if digest_of_state(read_weights(folder / WEIGHTS)) != digest_of_state(weights):
        raise RuntimeError(f'push: {folder / WEIGHTS} differs from {found.path} after writing.')
    names = ClassNames.of_checkpoint(content)
    before = sidecar_beside(found.path) or {}  # of a model that was pulled
    sidecar = dict(
        format=FORMAT, version=VERSION,
        model=dict(
            file=WEIGHTS, format='safetensors', dtype=_dtypes(tensors), weights=kind_of_weights(found.path),
            values=sum(value.numel() for value in tensors.values()),
        ),
        classes=list(names.names) if names else None, folders=list(names.folders) or None if names else None,
        calibration=None if calibration is None else Path(calibration_path(WEIGHTS)).name,
        provenance=before.get('provenance') or dict(
            hybridcls=__version__, checkpoint=Path(found.path).name, weights_sha256=digest_of_state(weights),
            versions=dict(torch=torch.__version__), pretrained=pretrained_sources(cfg),
        ),
        metrics=dict(metrics or before.get('metrics') or {}),
        meta=_kept(content), files=files_in(folder),
    )  # fmt: skip
    (folder / SIDECAR).write_text(json.dumps(sidecar, indent=1), encoding='utf8')
    shutil.copymode(folder / SIDECAR, folder / WEIGHTS)  # safetensors leaves it to its owner alone
    return sidecar


def files_in(folder: Path) -> dict[str, Any]:
    """Return ``sha256`` and ``bytes`` of each file below a folder, by path."""
    paths = sorted(path for path in folder.rglob('*') if path.is_file())
    return {
        path.relative_to(folder).as_posix(): dict(sha256=digest_of_file(path), bytes=path.stat().st_size)
        for path in paths
    }


def _kept(content: Mapping[str, Any]) -> dict[str, Any]:
    meta = content['meta']
    kept = {key: plain for key in _KEPT if (plain := _plain(meta.get(key))) is not None}
    return dict(kept, preprocessing_version=recorded_version(content))


def _plain(value: Any) -> Any:
    """Convert a value to the types of JSON, without entries that JSON cannot express."""
    if isinstance(value, Mapping):
        return {str(key): plain for key, one in value.items() if (plain := _plain(one)) is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value if isinstance(value, (bool, int, float, str)) else None


def _dtypes(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the dtype of the floating-point weights, several joined by +."""
    kinds = sorted({str(value.dtype).removeprefix('torch.') for value in tensors.values() if value.is_floating_point()})
    return ', '.join(kinds)
