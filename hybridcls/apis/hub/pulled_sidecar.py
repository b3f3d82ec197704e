"""Read ``model.json`` of a pushed model: its kind, and the files that belong to it."""

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Optional

from hybridcls.checks import listed
from hybridcls.safetensors_folder import FORMAT as CHECKPOINT
from hybridcls.safetensors_folder import SIDECAR, VERSION

from ..artifact.shipped.runtime import edits_of

__all__ = ['ADAPTERS', 'ARTIFACT', 'CHECKPOINT', 'KINDS', 'check_names', 'read_sidecar_text', 'sidecar_of']

ARTIFACT = 'hybridcls artifact'
ADAPTERS = 'hybridcls adapters'
KINDS = {CHECKPOINT: 'checkpoint', ARTIFACT: 'artifact', ADAPTERS: 'adapters'}
# What reading may run as a program: pickles, and the archive of torch.export, whose reader falls back to them.
_PICKLES = ('.pth', '.pt', '.pkl', '.pickle', '.ckpt', '.joblib', '.pt2', '.bin')
_DATA = {
    CHECKPOINT: ('.safetensors', '.json'),
    ADAPTERS: ('.safetensors', '.json'),
}


def sidecar_of(folder: Path, caller: str) -> Optional[dict[str, Any]]:
    """Return the content of ``model.json`` in a folder; None unless hybridcls wrote one.

    Raises:
        ValueError: If it is damaged, or of a later version.
    """
    path = folder / SIDECAR
    return read_sidecar_text(path.read_bytes(), str(path), caller) if path.is_file() else None


def read_sidecar_text(content: bytes, path: str, caller: str) -> Optional[dict[str, Any]]:
    """Read the content of a ``model.json``; None if it is of another project."""
    try:
        sidecar = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{caller}: {path} is damaged ({error}). Take another one.') from error
    if not isinstance(sidecar, dict) or sidecar.get('format') not in KINDS:
        return None
    if sidecar.get('version') != VERSION:
        raise ValueError(
            f'{caller}: expected version {VERSION} in {path}, got {sidecar.get("version")}. Update hybridcls.'
        )
    if not isinstance(sidecar.get('model', {}), dict):
        raise ValueError(f'{caller}: {path} is damaged: its model is no object. Take another one.')
    if not isinstance(sidecar.get('files'), dict) or not sidecar['files']:
        raise ValueError(f'{caller}: {path} is damaged: it lists no files. Take another one.')
    if sidecar['format'] == ARTIFACT and (edits := edits_of(sidecar)):
        raise ValueError(f'{caller}: {path} is not as it was exported: {listed(edits, 5)}. Take another one.')
    return sidecar


def check_names(caller: str, sidecar: dict[str, Any], where: str, trust: bool) -> None:
    """Raise if a downloaded model contains files that may run code when they are read.

    Raises:
        ValueError: Naming them.
    """
    names = list(sidecar['files'])
    model = sidecar.get('model') or {}
    allowed = _DATA.get(sidecar['format'])
    if allowed is not None:
        bad = [name for name in names if not name.endswith(allowed)]
        advice = f'A {KINDS[sidecar["format"]]} has files of {" and ".join(allowed)} alone.'
    else:
        bad = [] if trust else pickles_in(names)
        if model.get('format') == 'torch_export' and not trust:  # whatever its file is called
            bad = bad or [str(model.get('file'))]
        if model.get('format') == 'openvino':
            bad = [name for name in bad if PurePosixPath(name).suffix != '.bin']  # its weights, no pickle
        advice = (
            'If you trust who made it, add --trust-checkpoint: then reading it may run any command with your rights.'
        )
    if bad:
        raise ValueError(f'{caller}: {where} lists {listed(bad, 5)}, which may run code when it is read. {advice}')


def pickles_in(names: Iterable[str]) -> list[str]:
    """Return the names of files that are pickles, by their ending."""
    return [name for name in names if name.lower().endswith(_PICKLES)]
