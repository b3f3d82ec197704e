"""Read facts about the training, and about earlier phases, from a checkpoint and its work dir."""

import json
import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Optional

from mmengine.config import Config

import hybridcls
from hybridcls.checkpoint_reading import read_checkpoint
from hybridcls.checks import counted
from hybridcls.engine.checkpoints.files import latest_valid_checkpoint
from hybridcls.engine.checkpoints.find_checkpoint import find_checkpoint
from hybridcls.engine.config.change import provenance_of
from hybridcls.engine.config.checkpoint_config import config_of_checkpoint
from hybridcls.engine.config.dumps import RECORD, undo
from hybridcls.engine.config.tree import ABSENT, delete_at, differing, dotted, put_at, value_at
from hybridcls.engine.phases.record import PhaseRecord

from ..held_out_images import training_dataset
from ..inferencer import HybridInferencer

__all__ = ['TrainingFacts', 'training_facts']

_MACHINE = ('work_dir', 'launcher', 'load_from', 'resume', 'visualizer', 'vis_backends', 'env_cfg', 'custom_hooks')
_CONFIGS = ('.py', '.yml', '.yaml', '.json')  # an ensemble's stands for its checkpoints
_PHASE = re.compile(r'(\d+)_(.+)')
_PERCENT = ('accuracy/', 'knn/', 'retrieval/', 'linear/', 'multi-label/', 'classes/macro', 'single-label/')
NOT_RECORDED = 'not recorded'


class TrainingFacts(NamedTuple):
    """The known facts about a training.

    Args:
        phase (str): ``''``, or its name and number in a chain of phases.
        facts (list[tuple[str, str]]): What and its value, for a table.
        written (list[list[str]]): Key, value and who wrote it: what options, and a config with bases, set.
        differences (list[tuple[str, str, str]]): Key, value here, value there: against the shipped config of the same
            name.
        recipe (str, optional): That config.
        repeat (list[str]): The commands that train it again.
        config (str): The whole config as text.
        losses (dict), percents (dict): Curves in nats and in percent: name to (positions, values).
        unfinished (str): A sentence, if the work dir has no checkpoint of the end; ``''`` else.
    """

    phase: str
    facts: list[tuple[str, str]]
    written: list[list[str]]
    differences: list[tuple[str, str, str]]
    recipe: Optional[str]
    repeat: list[str]
    config: str
    losses: dict[str, tuple[list[float], list[float]]]
    percents: dict[str, tuple[list[float], list[float]]]
    unfinished: str = ''


def training_facts(model: HybridInferencer) -> list[TrainingFacts]:
    """Read the facts of all phases of a chain, in order; the last one is the checkpoint's own training."""
    path = Path(model.checkpoint_path)
    own = _facts_of(path, Config(model.config.to_dict()), model.why)
    own.facts[-1:-1] = [
        ('classes', str(len(model.classes)) if model.classes else 'none: the head gives embeddings'),
        ('preprocessing', f'version {model.preprocessing_version}'),
    ]
    place = _PHASE.fullmatch(path.resolve().parent.name)
    if place is None or not any(path.parent.glob('phase*.json')):
        return [own]
    others = [(match, one) for one in path.resolve().parent.parent.iterdir() if (match := _PHASE.fullmatch(one.name))]
    before = []
    for match, folder in sorted(others, key=lambda pair: int(pair[0][1])):
        if int(match[1]) < int(place[1]) and any(folder.glob('phase*.json')):
            found = find_checkpoint(folder)
            cfg = config_of_checkpoint(read_checkpoint(found.path), found.path)
            before.append(_facts_of(Path(found.path), cfg, found.why)._replace(phase=f'{match[1]}, {match[2]}'))
    return [*before, own._replace(phase=f'{place[1]}, {place[2]}')]


def _facts_of(path: Path, cfg: Config, why: str) -> TrainingFacts:
    checkpoint = read_checkpoint(str(path)) if path.is_file() and path.suffix not in _CONFIGS else {}
    meta: Mapping[str, Any] = checkpoint.get('meta') or {}
    record: Mapping[str, Any] = meta.get('training') or {}
    values = cfg.to_dict()
    planned = dict(values.get('train_cfg') or {})  # with the numbers that were filled in
    if RECORD in values:
        undo(values, {})
    experiment = str(meta.get('experiment_name', '')).rpartition('_')[0].rpartition('_')[0]
    recipe, differences = _against_shipped(str(record.get('config') or f'{experiment}.py'), values)
    phase = None
    with suppress(ValueError):  # cut or damaged: the time it took is not worth a report
        phase = PhaseRecord.read(path.parent)
    seconds = record.get('seconds') or (phase.seconds if phase is not None else None)
    facts = [
        ('checkpoint', why),
        (
            'trained',
            f'{_progress(values, planned, meta)}, until {_date(meta.get("time"))}',
        ),
        ('time it took', NOT_RECORDED if seconds is None else _duration(seconds, record.get('attempts', 1))),
        ('on', NOT_RECORDED if not record else f'{record["processes"]} x {record["device"]}, {record["system"]}'),
        ('model', _model_of(values)),
        ('data', str(values.get('data_root') or training_dataset(values).get('data_root') or 'in memory')),
        ('seed', str(meta.get('seed', values.get('seed', '?')))),
        ('git', _git_of(record)),
        ('command', record.get('command') or NOT_RECORDED),
        ('versions then', _versions_of(record.get('versions') or dict(mmengine=meta.get('mmengine_version', '?')))),
        ('versions now', f'hybridcls {hybridcls.__version__}, torch {_torch()}'),
    ]
    dump = next(iter(sorted(path.parent.glob('*.py'))), None)
    again = str(path.parent.resolve()) + '_again'
    if dump is not None:
        repeat = [f'hybridcls train {shlex.quote(str(dump.resolve()))} --work-dir {shlex.quote(again)}']
    else:
        code = f"import hybridcls; hybridcls.load({str(path)!r}, 'cpu').config.dump('again.py')"
        repeat = [f'python -c {shlex.quote(code)}', 'hybridcls train again.py --work-dir again']
    last = latest_valid_checkpoint(str(path.parent))
    whole = read_checkpoint(last) if last is not None else checkpoint
    losses, percents, damaged = _curves(path.parent, whole)
    if damaged:
        facts.insert(2, ('validation curves', f'none, because {damaged} is damaged'))
    written = [list(row) for row in record.get('written') or ()]
    return TrainingFacts('', facts, written, differences, recipe, repeat, cfg.pretty_text, losses, percents,
                         _unfinished(values, planned, whole.get('meta') or {}))  # fmt: skip


def _torch() -> str:
    import torch

    return torch.__version__


def _progress(values: Mapping[str, Any], planned: Mapping[str, Any], meta: Mapping[str, Any]) -> str:
    """Return how many epochs and updates the weights of the checkpoint had, and how many epochs were planned."""
    epoch, most = meta.get('epoch'), planned.get('max_epochs')
    epochs = counted(epoch, 'epoch', of=most) if epoch is not None and most else _counted(epoch, 'epoch')
    text = f'{epochs}, {_counted(meta.get("iter"), "update")}'
    hooks = [*(values.get('custom_hooks') or ()), *(values.get('default_hooks') or {}).values()]
    if meta.get('iter') == 0 and any('HeadFirstHook' in str((hook or {}).get('type')) for hook in hooks):
        text += ' (before the first one only the head was fitted, by HeadFirstHook)'
    return text


def _counted(number: Optional[int], word: str) -> str:
    return f'? {word}s' if number is None else counted(number, word)


def _duration(seconds: float, attempts: int) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    text = f'{hours} h {minutes} min' if hours else f'{minutes} min {rest} s' if minutes else f'{seconds:.0f} s'
    return text if attempts == 1 else f'{text}, in {attempts} attempts'


def _date(stamp: Optional[str]) -> str:
    """Format the timestamp ``20261126_120826`` of a checkpoint for readers."""
    return re.sub(r'(\d{4})(\d\d)(\d\d)_(\d\d)(\d\d)(\d\d)', r'\1-\2-\3 \4:\5', stamp or '?')


def _git_of(record: Mapping[str, Any]) -> str:
    if 'git' not in record:
        return NOT_RECORDED
    return '; '.join(
        f'{one["folder"]} at {one["commit"][:12]}{", with changes that were not committed" if one["dirty"] else ""}'
        for one in record['git']
    ) or 'neither the folder of the command nor hybridcls is in a repository'  # fmt: skip


def _versions_of(versions: Mapping[str, str]) -> str:
    return ', '.join(f'{name} {version}' for name, version in versions.items())


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


def _against_shipped(file: str, values: Mapping[str, Any]) -> tuple[Optional[str], list[tuple[str, str, str]]]:
    """Compare a training's config with the shipped one that it used, or that has its name."""
    from hybridcls.engine import is_chain, load_config

    root = Path(hybridcls.config_path(''))
    if Path(file).is_absolute():
        found = [root / Path(file).resolve().relative_to(root.resolve())] if _is_below(Path(file), root) else []
        found = [one for one in found if one.is_file()]
    else:
        found = [one for one in sorted(root.rglob(file)) if '_base_' not in one.parts] if Path(file).stem else []
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


def _is_below(file: Path, folder: Path) -> bool:
    return file.resolve().is_relative_to(folder.resolve())


def _short(value: Any) -> str:
    text = '-' if value is ABSENT else repr(value)
    return text if len(text) <= 120 else f'{text[:117]}...'


Curves = dict[str, tuple[list[float], list[float]]]


def _unfinished(values: Mapping[str, Any], planned: Mapping[str, Any], meta: Mapping[str, Any]) -> str:
    """Return a sentence if the last checkpoint was written before the end of the training, else ``''``."""
    hooks = [*(values.get('custom_hooks') or ()), *(values.get('default_hooks') or {}).values()]
    if any('EarlyStopping' in str((hook or {}).get('type')) for hook in hooks):
        return ''
    for done, most, unit in (('epoch', 'max_epochs', 'epochs'), ('iter', 'max_iters', 'updates')):
        if planned.get(most) and isinstance(meta.get(done), int) and meta[done] < planned[most]:
            return (
                f'The training was not finished: its last checkpoint is after {meta[done]} of {planned[most]} {unit}.'
            )
    return ''


def _curves(work_dir: Path, whole: Mapping[str, Any]) -> tuple[Curves, Curves, str]:
    """Return losses, and validation results in percent, over the updates, resumed runs included; and a damaged file."""
    losses: Curves = {}
    percents: Curves = {}
    hub = (whole.get('message_hub') or {}).get('log_scalars') or {}
    if 'train/loss' in hub:
        values = [float(value) for value in hub['train/loss'].data[0]]
        losses['loss (training)'] = (list(range(1, len(values) + 1)), values)
    file = work_dir / 'learning_curves.json'
    rows: list[dict[str, Any]] = []
    damaged = ''
    try:
        rows = json.loads(file.read_text()) if file.is_file() else []
    except ValueError:  # it was cut off
        damaged = file.name
    for name in dict.fromkeys(name for row in rows for name in row['metrics']):
        curves = losses if 'loss' in name else percents if name.startswith(_PERCENT) else None
        if curves is not None and not name.endswith(('_low', '_high')):
            those = [row for row in rows if name in row['metrics']]
            curves[f'{name} (validation)'] = ([row['iter'] for row in those], [row['metrics'][name] for row in those])
    return losses, percents, damaged
