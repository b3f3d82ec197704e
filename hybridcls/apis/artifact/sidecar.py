"""Write the files around the graph of an exported model: sidecar, config, golden images and runtime."""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from hybridcls.models.heads.head import is_multi_label, label_thresholds, main_head
from hybridcls.structures import Calibration

from ..trained_model import TrainedModel, class_names_of
from .golden import write_golden
from .measure import recorded_metrics
from .preprocessing import preprocessing_of
from .provenance import provenance_of
from .shipped.runtime import FORMAT, VERSION, file_digest, read_sidecar, with_digests

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
    mistakes: Optional[Mapping[str, Mapping[str, np.ndarray]]] = None,
    **more: Any,
) -> dict[str, Any]:
    """Write everything but the graph, which is in the folder already, and return the sidecar.

    Args:
        folder (str | Path): Of the artifact, with the file that ``model`` names.
        trained (TrainedModel): What was exported.
        model (Mapping): The sidecar's ``model``: file, format, input, outputs ...
        compute (Callable): The model in PyTorch, from uint8 (N, h, w, 3) RGB to its outputs by name.
        calibration (Calibration, optional): Of the checkpoint.
        metrics (Mapping, optional): What was measured, by name. Defaults to None: what the training measured.
        golden (str, optional): A folder of the user's own golden images.
        normalized (Callable, optional): See :func:`~hybridcls.apis.artifact.golden.write_golden`.
        mistakes (Mapping, optional): See :func:`~hybridcls.apis.artifact.golden.write_golden`.
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
        **_labels_of(
            [getattr(part, 'head', None) for part in getattr(trained.model, 'members', [trained.model])],
            len(class_names_of(trained)),
        ),
        heads=_heads_of(trained),
        calibration=None if calibration is None else calibration.to_json(),
        drift=None,
        enrolled=None,
        provenance=provenance_of(trained),
        metrics=dict(recorded_metrics(trained.found.path) if metrics is None else metrics),
        golden=write_golden(folder, trained, compute, golden, normalized, mistakes),
    )
    for file in sorted(_SHIPPED.glob('*.py')):
        if file.name != '__init__.py':
            shutil.copyfile(file, folder / file.name)
    write_sidecar(folder, sidecar | more)
    return read_sidecar(folder)


def write_sidecar(folder: Union[str, Path], sidecar: Mapping[str, Any]) -> None:
    """Write ``model.json`` with the present digests of all files and of its own content."""
    folder = Path(folder)
    files = {
        path.relative_to(folder).as_posix(): dict(sha256=file_digest(os.fspath(path)), bytes=path.stat().st_size)
        for path in sorted(folder.rglob('*'))
        if path.is_file() and path != folder / SIDECAR and '__pycache__' not in path.parts
    }
    text = json.dumps(with_digests({**sidecar, 'files': files}), indent=1, ensure_ascii=False)
    (folder / SIDECAR).write_text(f'{text}\n', encoding='utf8')


def _labels_of(heads: Sequence[Any], num_classes: int) -> dict[str, Any]:
    """Return whether an image may have several labels, and the thresholds; for an ensemble, their mean."""
    several = [head for head in heads if is_multi_label(head)]
    found = [known for head in several if (known := label_thresholds(head, num_classes)) is not None]
    if len(found) < len(several):
        main = main_head(several[0])
        raise ValueError(
            f'export: expected thresholds of several labels an image in {type(main).__name__}, got '
            f'topk={getattr(main, "topk", None)}: runtime.py compares each probability with one. Set head.thr: '
            '--config FILE names another config.'
        )
    mean = np.mean(found, axis=0, dtype=np.float32).tolist() if found else None
    return dict(multi_label=bool(found), class_thresholds=mean)


def _heads_of(trained: TrainedModel) -> Optional[dict[str, Any]]:
    """Return classes and thresholds of each head of a MultiHead."""
    head: Any = getattr(trained.model, 'head', None)
    if not hasattr(head, 'heads'):
        return None
    return {
        name: dict(classes=list(names), main=name == head.main, **_labels_of([one], len(names)))
        for name, one in head.heads.items()
        for names in [class_names_of(trained, one)]
    }
