"""Arms: the configs that are compared, each a file that inherits the one that was named."""

import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from pprint import pformat
from typing import Any, Optional

from hybridcls.checks import listed
from hybridcls.engine.checkpoints.files import atomic_write
from hybridcls.engine.config import ConfigError, is_chain, load_config
from hybridcls.engine.config.tree import datasets_in, dotted, is_a, leaves_in
from hybridcls.evaluation import CalibrationMetric

from .lever_switches import Changes, Lever, changes_at, merge_changes

__all__ = ['BASE', 'Arm', 'arms_of', 'write_arms']

BASE, ALL, BUT = 'base', 'all', 'all_but_'


@dataclass(frozen=True)
class Arm:
    """One of the trainings that are compared.

    Args:
        name (str): ``'base'``: no lever; the name of a lever: that one alone; ``'all'``; ``'all_but_NAME'``.
        levers (tuple[str, ...]): Those that are on.
        against (str, optional): The arm that it is compared with.
        gains (str, optional): The lever whose gain the comparison shows; None: that of all.
        is_loss (bool): Whether the comparison shows what is lost without the lever (all but one), so that its gain
            has the opposite sign.
        files (dict[str, str]): The texts of its config files, by name; the one to train is ``NAME.py``.
    """

    name: str
    levers: tuple[str, ...]
    against: Optional[str] = None
    gains: Optional[str] = None
    is_loss: bool = False
    files: dict[str, str] = field(default_factory=dict)


def arms_of(config: str, levers: Sequence[Lever], full: bool, options: Mapping[str, Any], folder: Path) -> list[Arm]:
    """Plan the arms: none of the levers, each alone, all of them and, if asked for, all but one.

    Args:
        config (str): What :func:`load_config` takes; no chain.
        levers (Sequence[Lever]): Different ones, at least one.
        full (bool): Whether to have the arms of all but one.
        options (Mapping): Dotted keys to values, of the command line, that hold in every arm.
        folder (Path): Where the files will lie: they name the config relative to it.

    Raises:
        ConfigError: If the config is a chain or is not validated, a lever changes nothing, or an option overrules one.
    """
    cfg = load_config(config, dict(options))
    if is_chain(cfg):
        raise ConfigError(
            f'ablate: expected a config of one training, got the chain {config}. Name the config of its last phase, '
            'and the lever supcon for a phase of supervised contrastive learning before it.'
        )
    if cfg.get('val_dataloader') is None or cfg.get('val_evaluator') is None:
        raise ConfigError(f'ablate: expected val_dataloader and val_evaluator in {config}, which arms are judged by.')
    names = [lever.name for lever in levers]
    if len(set(names)) < len(names) or not names:
        raise ValueError(f'ablate: expected different levers, at least one, got {listed(names)}.')
    one = names[0] if len(names) == 1 else None
    arms = [Arm(BASE, ()), *(Arm(name, (name,), BASE, name) for name in names)]
    if one is None:
        arms.append(Arm(ALL, tuple(names), BASE))
    if full and len(names) > 2:
        arms += [
            Arm(BUT + name, tuple(other for other in names if other != name), ALL, name, is_loss=True) for name in names
        ]
    base = _named_from(config, folder)
    return [_with_files(arm, cfg, levers, base, options) for arm in arms]


def write_arms(arms: Sequence[Arm], folder: Path) -> dict[str, Path]:
    """Write the files of the arms, and return the one to train by the name of the arm."""
    folder.mkdir(parents=True, exist_ok=True)
    for arm in arms:
        for name, text in arm.files.items():
            atomic_write(text.encode(), folder / name)
    return {arm.name: folder / f'{arm.name}.py' for arm in arms}


def _with_files(arm: Arm, cfg: Any, levers: Sequence[Lever], base: str, options: Mapping[str, Any]) -> Arm:
    plain = cfg.to_dict()
    changes: Changes = {}
    for lever in levers:
        merge_changes(changes, (lever.on if lever.name in arm.levers else lever.off)(plain))
    for key in options:
        for path, _ in leaves_in(changes):
            if f'{dotted(path)}.'.startswith(f'{key}.') or f'{key}.'.startswith(f'{dotted(path)}.'):
                raise ConfigError(
                    f'ablate: the option {key} would overrule what a lever sets in the arm {arm.name} '
                    f'({dotted(path)}). Leave one of the two out.'
                )
    merge_changes(changes, _judged(plain))
    text = _file(f'Arm {arm.name}: {listed(arm.levers) or "no lever"}.', base, changes)
    phases = [lever.name for lever in levers if lever.is_phase and lever.name in arm.levers]
    if not phases:
        files = {f'{arm.name}.py': text}
    else:
        head, first = f'{arm.name}_head.py', f'{arm.name}_supcon.py'
        chain = [dict(name='supcon', config=first), dict(name='head', config=head, test=False)]
        files = {
            head: text,
            first: _file(f'Arm {arm.name}, its first phase.', head, _supcon(plain)),
            f'{arm.name}.py': f'"""Arm {arm.name}: {listed(arm.levers)}."""\n\nphases = {pformat(chain, width=110)}\n',
        }
    return Arm(arm.name, arm.levers, arm.against, arm.gains, arm.is_loss, files)


def _judged(plain: Mapping) -> Changes:
    """What every arm has beside its levers: the likelihood of the validation, and the cost of the steps."""
    evaluators = plain['val_evaluator']
    evaluators = deepcopy(evaluators if isinstance(evaluators, (list, tuple)) else [evaluators])
    if not any(is_a('METRICS', one, CalibrationMetric) for one in evaluators):
        evaluators = [*evaluators, dict(type='CalibrationMetric')]
    return dict(val_evaluator=evaluators, default_hooks=dict(step_cost=dict(type='StepCostHook')))


def _supcon(plain: Mapping) -> Changes:
    """A first phase of supervised contrastive learning, of two views by the training's own transforms."""
    changes = dict(
        model=dict(
            head=dict(
                _delete_=True,
                type='SupConHead',
                projection=dict(out_channels=128),
                loss=dict(type='SupConLoss', temperature=0.1),
            )
        ),
        val_cfg=None,
        val_dataloader=None,
        val_evaluator=None,
        default_hooks=dict.fromkeys(
            key
            for key, hook in (plain.get('default_hooks') or {}).items()
            if hook and hook.get('type', '').rpartition('.')[2] in ('EarlyStoppingHook', 'HeadFirstHook')
        ),
    )
    merge_changes(changes, dict(default_hooks=dict(checkpoint=dict(save_best=None))))
    merge_changes(changes, changes_at(*_views(plain)))
    return changes


def _views(plain: Mapping) -> tuple[str, list]:
    for path, dataset in datasets_in(plain['train_dataloader']):
        pipeline = dataset.get('pipeline')
        if pipeline and not any(isinstance(key, int) for key in path):
            kinds = [step.get('type', '').rpartition('.')[2] for step in pipeline]
            first = next((k for k, kind in enumerate(kinds) if not kind.startswith('Load')), len(kinds))
            last = next((k for k, kind in enumerate(kinds) if kind.startswith('Pack')), len(kinds))
            views = dict(type='ImageViews', num_views=2, transforms=[pipeline[first:last]])
            key = dotted(('train_dataloader', *path, 'pipeline'))
            return key, [*pipeline[:first], views, *pipeline[last:]]
    raise ConfigError('ablate: expected a training data set with a pipeline, which two views can be made of, got none.')


def _named_from(config: str, folder: Path) -> str:
    return config if '::' in config else os.path.relpath(config, folder)


def _file(title: str, base: str, changes: Changes) -> str:
    lines = [f'"""{title}"""', '', f'_base_ = {base!r}']
    lines += [f'{key} = {pformat(value, width=110, sort_dicts=False)}' for key, value in changes.items()]
    return '\n'.join(lines) + '\n'
