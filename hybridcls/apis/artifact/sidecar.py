"""Write what surrounds the graph of an exported model: sidecar, config, golden images and the files that run there."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from hybridcls.structures import Calibration

from ..trained_model import TrainedModel, class_names_of
from .golden import write_golden
from .preprocessing import preprocessing_of
from .provenance import provenance_of
from .shipped.runtime import FORMAT, VERSION, file_digest, read_sidecar

__all__ = ['SIDECAR', 'read_sidecar', 'write_artifact', 'write_sidecar']

SIDECAR = 'model.json'
_SHIPPED = Path(__file__).parent / 'shipped'


def write_artifact(
    folder: Union[str, Path],
    trained: TrainedModel,
    model: Mapping[str, Any],
    compute: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    *,
    calibration: Optional[Calibration] = None,
    metrics: Optional[Mapping[str, Any]] = None,
    golden: Optional[str] = None,
    normalized: Optional[Callable[[np.ndarray], Mapping[str, np.ndarray]]] = None,
    **more: Any,
) -> dict[str, Any]:
    """Write everything but the graph, which lies in the folder already, and return the sidecar.

    Args:
        folder (str | Path): Of the artifact, with the file that ``model`` names.
        trained (TrainedModel): What was exported.
        model (Mapping): The sidecar's ``model``: file, format, input, outputs ...
        compute (Callable): The model in PyTorch, from uint8 (N, h, w, 3) RGB to its outputs by name.
        calibration (Calibration, optional): Of the checkpoint.
        metrics (Mapping, optional): What was measured, by name.
        golden (str, optional): A folder of the user's own golden images.
        normalized (Callable, optional): See :func:`~hybridcls.apis.artifact.golden.write_golden`.
        **more: Other keys of the sidecar, such as ``drift``.

    Raises:
        ValueError: If the pipeline cannot be exported, or the golden images are too large.
    """
    folder = Path(folder)
    preprocessing = preprocessing_of(trained)
    (folder / 'config.py').write_text(trained.cfg.pretty_text, encoding='utf8')
    sidecar: dict[str, Any] = dict(
        format=FORMAT,
        version=VERSION,
        model=dict(model),
        preprocessing=preprocessing,
        classes=list(class_names_of(trained)),
        folders=list(trained.classes.folders) if trained.classes and trained.classes.folders else None,
        **_of_head(trained.model),
        heads=_heads_of(trained),
        calibration=None if calibration is None else calibration.to_json(),
        drift=None,
        enrolled=None,
        provenance=provenance_of(trained),
        metrics=dict(metrics or {}),
        golden=write_golden(folder, trained, compute, golden, normalized),
    )
    for file in sorted(_SHIPPED.glob('*.py')):
        if file.name != '__init__.py':
            shutil.copyfile(file, folder / file.name)
    write_sidecar(folder, sidecar | more)
    return read_sidecar(folder)


def write_sidecar(folder: Union[str, Path], sidecar: Mapping[str, Any]) -> None:
    """Write ``model.json`` with the digests of all files as they are now."""
    folder = Path(folder)
    files = {
        path.relative_to(folder).as_posix(): dict(sha256=file_digest(os.fspath(path)), bytes=path.stat().st_size)
        for path in sorted(folder.rglob('*'))
        if path.is_file() and path != folder / SIDECAR and '__pycache__' not in path.parts
    }
    text = json.dumps({**sidecar, 'files': files}, indent=1, ensure_ascii=False)
    (folder / SIDECAR).write_text(f'{text}\n', encoding='utf8')


def _of_head(head_owner: Any) -> dict[str, Any]:
    """Return whether an image may have several labels, and from which probability on."""
    return _labels_of(getattr(head_owner, 'head', None))


def _labels_of(head: Any) -> dict[str, Any]:
    head = getattr(head, 'heads', {}).get(getattr(head, 'main', None), head) if hasattr(head, 'heads') else head
    is_multi = bool(getattr(head, 'multi_label', False))
    return dict(multi_label=is_multi, class_thresholds=head.thresholds.values.tolist() if is_multi else None)


def _heads_of(trained: TrainedModel) -> Optional[dict[str, Any]]:
    """Return classes and thresholds of each head of a MultiHead."""
    head: Any = getattr(trained.model, 'head', None)
    if not hasattr(head, 'heads'):
        return None
    return {
        name: dict(classes=list(class_names_of(trained, one)), main=name == head.main, **_labels_of(one))
        for name, one in head.heads.items()
    }
