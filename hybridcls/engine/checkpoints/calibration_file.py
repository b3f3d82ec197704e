"""The calibration file beside a checkpoint, which names it by the digest of its weights."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import torch

from hybridcls.checkpoint_reading import read_checkpoint, weights_of
from hybridcls.checks import check_file, listed
from hybridcls.structures import Calibration, ClassNames

from .files import atomic_write

__all__ = [
    'FoundCalibration', 'calibration_path', 'digest_of_state', 'digest_of_weights', 'find_calibration',
    'write_calibration',
]  # fmt: skip

SUFFIX = '.calibration.json'


class FoundCalibration(NamedTuple):
    """A calibration, and the file it was read from.

    Args:
        path (str): The file.
        calibration (Calibration): Its content.
    """

    path: str
    calibration: Calibration

    @property
    def why(self) -> str:
        """A sentence that says which calibration is used, to print first."""
        return f'Calibration {self.path}: {self.calibration}.'


def calibration_path(checkpoint: Union[str, Path]) -> str:
    """Return the path of a checkpoint's calibration, beside it.

    Example:
        >>> calibration_path('work_dirs/full/epoch_3.pth')
        'work_dirs/full/epoch_3.pth.calibration.json'
    """
    return f'{os.fspath(checkpoint).rstrip(os.sep)}{SUFFIX}'


def digest_of_weights(checkpoint: Union[str, Path]) -> str:
    """Return the SHA-256 of a checkpoint's weights: names, types, shapes and values.

    It is that of a copy without the state of the optimizer, or in another format, too. Of a folder (LoRA adapters) it
    is that of its files.
    """
    digest = hashlib.sha256()
    if os.path.isdir(checkpoint):
        for file in sorted(path for path in Path(checkpoint).rglob('*') if path.is_file()):
            digest.update(str(file.relative_to(checkpoint)).encode('utf8', 'surrogateescape') + b'\0')
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()
    return digest_of_state(weights_of(read_checkpoint(checkpoint), os.fspath(checkpoint)))


def digest_of_state(weights: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a state dict: names, types, shapes and values, independent of their order."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        if isinstance(value, torch.Tensor):
            digest.update(f'{name} {value.dtype} {tuple(value.shape)}\0'.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_calibration(calibration: Calibration, path: Union[str, Path]) -> None:
    """Write the file atomically."""
    atomic_write(f'{json.dumps(calibration.to_json(), indent=1)}\n'.encode(), path)


def find_calibration(
    checkpoint: Union[str, Path], chosen: Union[str, Path, bool, None] = None
) -> Optional[FoundCalibration]:
    """Return a checkpoint's calibration: the given file, else the one beside it, if there is one.

    Args:
        checkpoint (str | Path): The file, or folder of adapters, that was found; anything else has none.
        chosen (str | Path | bool, optional): A file; False: none. Defaults to None: the one beside the checkpoint.

    Raises:
        FileNotFoundError: If the file that is named does not exist.
        ValueError: If it is no calibration, or that of other weights or classes.
    """
    if chosen is False:
        return None
    named = chosen not in (None, True)
    path = os.path.expanduser(os.fspath(chosen)) if named else calibration_path(checkpoint)  # type: ignore[arg-type]
    if named:
        check_file('calibration', 'file', path)
    if not os.path.isfile(path) or not os.path.exists(checkpoint):
        return None
    try:
        content = json.loads(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f'calibration: {path} is damaged ({error}). Type: hybridcls calibrate') from error
    calibration = Calibration.from_json(content, path)
    _check(calibration, path, os.fspath(checkpoint))
    return FoundCalibration(path, calibration)


def _check(calibration: Calibration, path: str, checkpoint: str) -> None:
    advice = f'Type hybridcls calibrate {checkpoint} --data FOLDER, or --no-calibration to predict without it.'
    names = None
    if os.path.isdir(checkpoint):
        digest = digest_of_weights(checkpoint)
    else:
        content = read_checkpoint(checkpoint)
        digest, names = digest_of_state(weights_of(content, checkpoint)), ClassNames.of_checkpoint(content)
    if digest != calibration.weights_sha256:
        raise ValueError(
            f'calibration: expected a calibration of the weights in {checkpoint}, got {path}, which is for other '
            f'weights ({calibration.checkpoint}, or this file before it was written again). {advice}'
        )
    if names is not None and list(names.names) != list(calibration.classes):
        raise ValueError(
            f'calibration: expected a calibration for the classes {listed(names.names, 5)} in {checkpoint}, got '
            f'{path}, which is for {listed(calibration.classes, 5)}. {advice}'
        )
