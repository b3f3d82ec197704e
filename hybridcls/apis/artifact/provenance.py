"""The provenance of an exported model: checkpoint, config, data, versions, licences of pretrained weights."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from torch import nn

from hybridcls.checkpoint_reading import read_checkpoint
from hybridcls.engine.checkpoints.calibration_file import digest_of_weights
from hybridcls.version import __version__

from ..held_out_images import split_file_of, training_dataset
from ..trained_model import TrainedModel

__all__ = ['first_weights_of', 'provenance_of']

UNKNOWN = 'unknown'
_PACKAGES = ('torch', 'timm', 'mmengine', 'mmcv', 'mmpretrain', 'numpy', 'cv2', 'PIL', 'onnx', 'onnxscript')


def provenance_of(trained: TrainedModel) -> dict[str, Any]:
    """Return the sidecar's ``provenance``; what is unknown is left out."""
    path = Path(trained.found.path)
    meta: Mapping[str, Any] = read_checkpoint(path).get('meta') or {} if path.is_file() else {}
    kept = dict(epoch='epoch', iterations='iter', seed='seed', trained='time')
    return dict(
        hybridcls=__version__,
        checkpoint=path.name,
        weights_sha256=digest_of_weights(path) if path.exists() else None,
        config='config.py',
        **{name: meta[key] for name, key in kept.items() if meta.get(key) is not None},
        data=_data(trained),
        versions=_versions(),
        pretrained=first_weights_of(trained.model, trained.cfg),
        date=datetime.now(timezone.utc).isoformat(timespec='seconds'),
    )


def _versions() -> dict[str, str]:
    """Return the versions of the packages that are loaded."""
    return {name: str(sys.modules[name].__version__) for name in _PACKAGES if name in sys.modules}


def _data(trained: TrainedModel) -> dict[str, Any]:
    """Return what identifies the training data: its settings and, if there is one, its split table.

    Images are not read: a fingerprint changes with the settings, the classes and the lists of images, not with what is
    in a file of the same name.
    """
    dataset = training_dataset(trained.cfg)
    known = {key: value for key, value in dataset.items() if key != 'pipeline'}
    digest = hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode())
    lists = [split_file_of(trained.found.path), Path(known.get('data_root') or '') / str(known.get('ann_file') or '')]
    found = {}
    for file in lists:
        if file is not None and file.is_file():
            content = file.read_bytes()
            digest.update(content)
            found[file.name] = dict(sha256=hashlib.sha256(content).hexdigest(), lines=content.count(b'\n'))
    if trained.classes is not None:
        digest.update(json.dumps(trained.classes.names).encode())
    folder = Path(known.get('data_root') or '').name
    return dict(type=known.get('type'), folder=folder or None, lists=found, fingerprint=digest.hexdigest())


def first_weights_of(model: nn.Module, cfg: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the source and the licence of the initial weights of each network in a model."""
    found: dict[str, dict[str, Any]] = {}
    for name, module in model.named_modules():
        known = getattr(module, 'pretrained_cfg', None)
        if isinstance(known, Mapping) and not any(name.startswith(f'{above}.') for above in found):
            found[name.removesuffix('.model')] = _first_weights(cfg, name.removesuffix('.model').split('.'), known)
    if not found and isinstance(cfg.get('model'), Mapping):
        found['backbone'] = _first_weights(cfg, ['backbone'], {})
    return found


def _first_weights(cfg: Mapping[str, Any], place: Sequence[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the initial weights of a part by its config; the licence of timm's is that of its ``pretrained_cfg``."""
    part: Any = cfg['model']
    for step in place:
        part = part.get(step) if isinstance(part, Mapping) else None
    of = part if isinstance(part, Mapping) else {}
    name = known.get('architecture') or of.get('model_name') or of.get('type') or UNKNOWN
    file = of.get('checkpoint_path') or (of.get('init_cfg') or {}).get('checkpoint') or cfg.get('load_from')
    if file:
        return dict(model=name, weights=Path(str(file)).name, license=UNKNOWN, url=UNKNOWN)
    if not of.get('pretrained'):
        return dict(model=name, weights='random', license=None, url=None)
    hub = known.get('hf_hub_id')
    url = known.get('url') or (f'https://huggingface.co/{hub}' if hub else UNKNOWN)
    if known.get('tag'):
        name = f'{name}.{known["tag"]}'
    return dict(model=name, weights='timm', license=known.get('license') or UNKNOWN, url=url)
