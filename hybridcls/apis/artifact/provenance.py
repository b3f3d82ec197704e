"""Where an exported model comes from: checkpoint, config, data, versions, licences of pretrained weights."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Optional

from torch import nn

from hybridcls.checkpoint_reading import read_checkpoint
from hybridcls.datasets.split_file import SPLIT_FILE
from hybridcls.engine.checkpoints.calibration_file import digest_of_weights
from hybridcls.version import __version__

from ..trained_model import TrainedModel

__all__ = ['provenance_of']

UNKNOWN = 'unknown'
_PACKAGES = ('torch', 'timm', 'mmengine', 'mmcv-lite', 'mmcv', 'mmpretrain', 'numpy', 'opencv-python-headless',
             'opencv-python', 'pillow', 'onnx', 'onnxscript')  # fmt: skip


def provenance_of(trained: TrainedModel, config_file: str = 'config.py') -> dict[str, Any]:
    """Return the sidecar's ``provenance``."""
    path = Path(trained.found.path)
    meta: Mapping[str, Any] = read_checkpoint(path).get('meta') or {} if path.is_file() else {}
    return dict(
        hybridcls=__version__,
        checkpoint=path.name,
        why=trained.found.why,
        weights_sha256=digest_of_weights(path) if path.exists() else None,
        config=config_file,
        epoch=meta.get('epoch'),
        iteration=meta.get('iter'),
        seed=meta.get('seed'),
        trained=meta.get('time'),
        data=_data_of(trained, path, meta),
        versions=_versions() | {key[:-8]: meta[key] for key in ('mmengine_version',) if key in meta},
        pretrained=_pretrained(trained.model),
        date=datetime.now(timezone.utc).isoformat(timespec='seconds'),
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _data_of(trained: TrainedModel, path: Path, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells the training data from others."""
    dataset: Any = (trained.cfg.get('train_dataloader') or {}).get('dataset') or {}
    while isinstance(dataset.get('dataset'), Mapping):  # wrappers
        dataset = dataset['dataset']
    known = {key: dataset[key] for key in ('type', 'data_root', 'data_prefix', 'ann_file', 'split') if dataset.get(key)}
    split = next((one for one in (path.parent / SPLIT_FILE, path.parent.parent / SPLIT_FILE) if one.is_file()), None)
    classes = None if trained.classes is None else list(trained.classes.names)
    text = json.dumps([known, classes], sort_keys=True, default=str)
    return known | dict(
        split_sha256=None if split is None else hashlib.sha256(split.read_bytes()).hexdigest(),
        fingerprint=hashlib.sha256(text.encode() + (split.read_bytes() if split else b'')).hexdigest(),
    )


def _pretrained(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Return for each stream the model and the licence of its weights in timm; what timm does not say is unknown."""
    backbone = getattr(model, 'backbone', None)
    found = {}
    for name in getattr(backbone, 'stream_names', ()):
        config: Optional[Mapping[str, Any]] = getattr(getattr(backbone, name).model, 'pretrained_cfg', None)
        of = config or {}
        found[name] = dict(
            model=getattr(getattr(backbone, name), 'model_name', UNKNOWN),
            license=of.get('license') or UNKNOWN,
            url=of.get('url') or of.get('hf_hub_id') or UNKNOWN,
        )
    return found
