"""What a checkpoint and its work dir tell of the training."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Optional

from mmengine.config import Config

import hybridcls
from hybridcls.checkpoint_reading import read_checkpoint
from hybridcls.engine.config.change import provenance_of
from hybridcls.engine.config.dumps import RECORD, undo
from hybridcls.engine.config.tree import ABSENT, delete_at, differing, dotted, put_at, value_at

from ..inferencer import HybridInferencer

__all__ = ['TrainingFacts', 'training_facts']

_MACHINE = ('work_dir', 'launcher', 'load_from', 'resume', 'visualizer', 'vis_backends', 'env_cfg', 'custom_hooks')


class TrainingFacts(NamedTuple):
    """What is known of a training.

    Args:
        facts (list[tuple[str, str]]): What and its value, for a table.
        differences (list[tuple[str, str, str]]): Key, value here, value there: against the shipped config of the same
            name.
        recipe (str, optional): That config.
        repeat (str): The command that trains it again.
        config (str): The whole config as text.
        curves (dict): Name to (positions, values).
    """

    facts: list[tuple[str, str]]
    differences: list[tuple[str, str, str]]
    recipe: Optional[str]
    repeat: str
    config: str
    curves: dict[str, tuple[list[float], list[float]]]


def training_facts(model: HybridInferencer) -> TrainingFacts:
    """Read them."""
    path = Path(model.checkpoint_path)
    checkpoint = read_checkpoint(str(path)) if path.is_file() else {}
    meta: Mapping[str, Any] = checkpoint.get('meta') or {}
    cfg = Config(model.config.to_dict())
    values = cfg.to_dict()
    stem = str(meta.get('experiment_name', '')).rpartition('_')[0].rpartition('_')[0]
    if RECORD in values:
        undo(values, {})
    recipe, differences = _against_shipped(stem, values)
    facts = [
        ('checkpoint', f'{path} ({model.why})'),
        ('trained', f'{meta.get("epoch", "?")} epochs, {meta.get("iter", "?")} updates, until {meta.get("time", "?")}'),
        ('model', _model_of(values)),
        ('classes', str(len(model.classes))),
        ('data', str(values.get('data_root') or _data_root(values) or 'in memory')),
        ('seed', str(meta.get('seed', values.get('seed', '?')))),
        ('versions then', f'mmengine {meta.get("mmengine_version", "?")}'),
        ('versions now', f'hybridcls {hybridcls.__version__}, torch {_torch()}'),
        ('preprocessing version', str(model.preprocessing_version)),
    ]
    work_dir = path.parent
    dumps = sorted(work_dir.glob('*.py'))
    repeat = f'hybridcls train {shlex.quote(str(dumps[0]))} --work-dir ANOTHER_FOLDER' if dumps else (
        'hybridcls.load(CHECKPOINT).config.dump("again.py"), then: hybridcls train again.py'
    )  # fmt: skip
    return TrainingFacts(facts, differences, recipe, repeat, cfg.pretty_text, _curves(checkpoint, work_dir))


def _torch() -> str:
    import torch

    return torch.__version__


def _model_of(values: Mapping[str, Any]) -> str:
    model = values.get('model') or {}
    backbone = model.get('backbone') or {}
    streams = [
        str((backbone.get(name) or {}).get('model_name') or (backbone.get(name) or {}).get('type'))
        for name in ('cnn', 'vit')
        if backbone.get(name)
    ]
    parts = [' + '.join(streams) or str(values.get('model_name') or backbone.get('model_name') or backbone.get('type'))]
    parts += [str(model[part]['type']) for part in ('neck', 'head') if model.get(part)]
    return ', '.join(parts)


def _data_root(values: Mapping[str, Any]) -> Optional[str]:
    dataset: Any = (values.get('train_dataloader') or {}).get('dataset') or {}
    while isinstance(dataset.get('dataset'), Mapping):
        dataset = dataset['dataset']
    return dataset.get('data_root')


def _against_shipped(stem: str, values: Mapping[str, Any]) -> tuple[Optional[str], list[tuple[str, str, str]]]:
    from hybridcls.engine import is_chain, load_config

    root = Path(hybridcls.config_path(''))
    found = [file for file in sorted(root.rglob(f'{stem}.py')) if '_base_' not in file.parts] if stem else []
    if not found:
        return None, []
    there = load_config(found[0])
    if is_chain(there):
        return None, []
    plain = there.to_dict()
    for change in reversed(provenance_of(there).changes):
        if change.old is ABSENT:
            delete_at(plain, change.path)
        else:
            put_at(plain, change.path, change.old)
    rows = [
        (dotted(path), _short(value), _short(value_at(plain, path)))
        for path, value in differing(values, plain)
        if path[0] not in (*_MACHINE, RECORD)
    ]
    return found[0].relative_to(root).with_suffix('').as_posix(), rows


def _short(value: Any) -> str:
    text = '-' if value is ABSENT else repr(value)
    return text if len(text) <= 120 else f'{text[:117]}...'


def _curves(checkpoint: Mapping[str, Any], work_dir: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Losses and validation results over the updates."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    hub = (checkpoint.get('message_hub') or {}).get('log_scalars') or {}
    for name, buffer in hub.items():
        if name == 'train/loss':
            values = [float(value) for value in buffer.data[0]]
            curves['loss (training)'] = (list(range(1, len(values) + 1)), values)
    file = work_dir / 'learning_curves.json'
    rows = json.loads(file.read_text()) if file.is_file() else []
    for name in dict.fromkeys(name for row in rows for name in row['metrics']):
        those = [row for row in rows if name in row['metrics']]
        curves[f'{name} (validation)'] = ([row['iter'] for row in those], [row['metrics'][name] for row in those])
    return curves
