"""Read a checkpoint folder without pickles: ``model.safetensors``, and ``model.json`` with its metadata."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Optional, Union

from .checks import listed

__all__ = [
    'FORMAT', 'SIDECAR', 'VERSION', 'WEIGHTS', 'check_files', 'digest_of_file', 'folder_weights', 'read_sidecar',
    'sidecar_beside', 'write_safetensors',
]  # fmt: skip

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 'hybridcls checkpoint'
VERSION = 1
SIDECAR, WEIGHTS = 'model.json', 'model.safetensors'
_FETCH = 'Fetch it again (hybridcls pull), or push its checkpoint again.'


def folder_weights(path: Union[str, Path]) -> Optional[str]:
    """Return the weights file if ``path`` is such a folder; None for anything else.

    Raises:
        ValueError: If its ``model.json`` is damaged.
    """
    sidecar, weights = Path(path, SIDECAR), Path(path, WEIGHTS)
    if not sidecar.is_file() or not weights.is_file() or sidecar_beside(weights) is None:
        return None
    return os.path.join(os.fspath(path), WEIGHTS)


def read_sidecar(weights: Union[str, Path]) -> Optional[dict[str, Any]]:
    """Return the content of ``model.json`` beside a weights file, after checking its digest; None without one.

    Raises:
        ValueError: If the weights are others than it was written for, or it is damaged or of a later version.
    """
    sidecar = sidecar_beside(weights)
    if sidecar is None:
        return None
    folder = os.path.dirname(os.fspath(weights))
    if sidecar.get('version') != VERSION:
        raise ValueError(
            f'{folder}: expected version {VERSION} in {SIDECAR}, got {sidecar.get("version")}. Update hybridcls.'
        )
    if not isinstance(sidecar.get('meta'), dict) or not isinstance(sidecar.get('files'), dict):
        raise ValueError(f'{folder}: {SIDECAR} is damaged: it lacks meta or files. {_FETCH}')
    check_files(folder, {WEIGHTS: sidecar['files'].get(WEIGHTS)})
    return sidecar


def check_files(folder: Union[str, Path], files: Mapping[str, Any]) -> None:
    """Check files against their recorded digests.

    Args:
        folder (str | Path): Where they lie.
        files (Mapping): ``sha256`` and ``bytes`` by path in the folder.

    Raises:
        ValueError: Naming every file that is missing, has changed, or would lie elsewhere.
    """
    outside = [name for name in files if not _is_inside(name)]
    if outside:
        raise ValueError(f'{folder}: expected paths below it in {SIDECAR}, got {listed(map(repr, outside), 5)}.')
    missing = [name for name in files if not Path(folder, name).is_file()]
    changed = [name for name in files if name not in missing and not _is_same(Path(folder, name), files[name])]
    if missing or changed:
        parts = [f'{listed(missing, 5)} missing'] * bool(missing) + [f'{listed(changed, 5)} changed'] * bool(changed)
        raise ValueError(f'{folder}: expected the files that {SIDECAR} lists, got {" and ".join(parts)}. {_FETCH}')


def digest_of_file(path: Union[str, Path]) -> str:
    """Return the SHA-256 of a file, in hex digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sidecar_beside(weights: Union[str, Path]) -> Optional[dict[str, Any]]:
    """Return the unchecked content of ``model.json`` beside a weights file; None unless hybridcls wrote one.

    Raises:
        ValueError: If it is no JSON.
    """
    path = Path(weights).parent / SIDECAR
    if Path(weights).name != WEIGHTS or not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is damaged ({error}). {_FETCH}') from error
    if not isinstance(content, dict) or content.get('format') != FORMAT:
        return None
    if not isinstance(content.get('model'), dict):
        raise ValueError(f'{path} is damaged: it lacks model. {_FETCH}')
    return content


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and '..' not in path.parts and '\\' not in name and ':' not in name


def _is_same(path: Path, expected: Any) -> bool:
    if not isinstance(expected, Mapping) or path.stat().st_size != expected.get('bytes'):
        return False
    return digest_of_file(path) == expected.get('sha256')


def write_safetensors(
    tensors: 'Mapping[str, Tensor]', path: Union[str, Path], metadata: Optional[dict[str, str]] = None
) -> None:
    """Write tensors to a file.

    Raises:
        OSError: If it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path, metadata=metadata)
    except SafetensorError:  # it has no number of the system's error
        _write_zeros(path, sum(tensor.nbytes for tensor in tensors.values()))  # as much meets the same error again
        raise


def _write_zeros(path: Union[str, Path], size: int) -> None:
    try:
        with open(path, 'wb') as file:
            for start in range(0, size, 2**20):
                file.write(bytes(min(2**20, size - start)))
    finally:
        Path(path).unlink(missing_ok=True)
