"""Arms: the configs that an ablation compares, each a file that inherits the base config."""

import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from pprint import pformat
from typing import Any, Optional

from hybridcls.checks import listed
from hybridcls.engine.checkpoints.files import atomic_write
from hybridcls.engine.config import ConfigError, is_chain, load_config
from hybridcls.engine.config.tree import datasets_in, dotted, is_a, leaves_in
from hybridcls.engine.phases.plan import Phase, read_phases
from hybridcls.evaluation import CalibrationMetric

from .lever_switches import Changes, Lever, changes_at, contradiction, merge_changes

__all__ = ['BASE', 'Arm', 'arms_of', 'options_of_arm', 'write_arms']

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
        conflict (str): Why its levers cannot be on together, so that it is not trained; empty if they can.
        files (dict[str, str]): The texts of its config files, by name; the one to train is ``NAME.py``.
    """

    name: str
    levers: tuple[str, ...]
    against: Optional[str] = None
    gains: Optional[str] = None
    is_loss: bool = False
    conflict: str = ''
    files: dict[str, str] = field(default_factory=dict)


def arms_of(config: str, levers: Sequence[Lever], full: bool, options: Mapping[str, Any], folder: Path) -> list[Arm]:
    """Plan the arms: none of the levers, each alone, all of them and, if asked for, all but one.

    Args:
        config (str): What :func:`load_config` takes. The phases of a chain have the levers each, but for those of the
            head, which is the last phase's.
        levers (Sequence[Lever]): Different ones, at least one.
        full (bool): Whether to have the arms of all but one.
        options (Mapping): Dotted keys to values, of the command line, that hold in every arm.
        folder (Path): Where the files will lie: they name the config relative to it.

    Raises:
        ConfigError: If the config is not validated, is a chain and a lever is a phase, an option overrules a lever, or
            a lever sets ``val_evaluator`` or a seed.
    """
    names = [lever.name for lever in levers]
    cfg = load_config(config, options_of_arm(config, options))
    phases = read_phases(cfg) if is_chain(cfg) else []
    trained = [_Trained(load_config(one.config, one.options).to_dict(), one.config, one.options) for one in phases]
    trained = trained or [_Trained(cfg.to_dict(), config, options)]
    last = trained[-1].plain
    if last.get('val_dataloader') is None or last.get('val_evaluator') is None:
        raise ConfigError(
            f'ablate: expected val_dataloader and val_evaluator in {trained[-1].config}, which arms are judged by.'
        )
    if phases and any(lever.is_phase for lever in levers):
        raise ConfigError(
            f'ablate: expected no lever supcon for the chain {config}, which has its phases. Name the config of its '
            f'last phase ({trained[-1].config}) for a phase of supervised contrastive learning before it.'
        )
    if len(set(names)) < len(names) or not names:
        raise ValueError(f'ablate: expected different levers, at least one, got {listed(names) or "none"}.')
    for lever in levers:
        _check_comparable(lever, [one.plain for one in trained])
    one = names[0] if len(names) == 1 else None
    arms = [Arm(BASE, ()), *(Arm(name, (name,), BASE, name) for name in names)]
    if one is None:
        arms.append(Arm(ALL, tuple(names), BASE))
    if full and len(names) > 2:
        arms += [
            Arm(BUT + name, tuple(other for other in names if other != name), ALL, name, is_loss=True) for name in names
        ]
    arms = [replace(arm, conflict=_conflict(arm, trained, levers)) for arm in arms]
    if phases:
        return [_with_phases(arm, cfg, config, phases, trained, levers, folder) for arm in arms]
    return [_with_files(arm, trained[0], levers, folder) for arm in arms]


def _check_comparable(lever: Lever, trained: Sequence[Mapping]) -> None:
    """Raise if a lever sets what all arms have in common: the metrics that judge them, and the seed."""
    set_by = [dotted(path) for plain in trained for change in (lever.on(plain), lever.off(plain))
              for path, _ in leaves_in(change)]  # fmt: skip
    if any(key.partition('.')[0] == 'val_evaluator' for key in set_by):
        raise ConfigError(
            f'ablate: expected all arms to be judged by the same val_evaluator, got another one in the lever '
            f'{lever.name!r}. Set val_evaluator for all arms: in the config, or with --cfg-options.'
        )
    if {'seed', 'randomness.seed'} & {*set_by}:
        raise ConfigError(
            f'ablate: expected no seed in the lever {lever.name!r}: all arms are trained with the same seeds, which '
            '--seeds sets. Leave it out.'
        )


def _conflict(arm: Arm, trained: Sequence['_Trained'], levers: Sequence[Lever]) -> str:
    on = [lever for lever in levers if lever.name in arm.levers]
    for one, other in combinations(on, 2):
        for training in trained:
            key = contradiction(one.on(training.plain), other.on(training.plain))
            if key:
                return f'{one.name} and {other.name} exclude each other: both set {key}'
    return ''


def options_of_arm(config: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options for the config of an arm.

    In a chain, an option applies to all phases; one that begins with ``phases.N`` to that phase alone.

    Args:
        config (str or Path): What :func:`load_config` takes.
        options (Mapping): Dotted keys to values.
    """
    if not is_chain(load_config(config)):
        return dict(options)
    own = ('phases.', 'cfg_options.')
    return {key if key.startswith(own) else f'cfg_options.{key}': value for key, value in options.items()}


def write_arms(arms: Sequence[Arm], folder: Path) -> dict[str, Path]:
    """Write the config files of all valid arms, and return the path of the one to train by the name of the arm."""
    folder.mkdir(parents=True, exist_ok=True)
    arms = [arm for arm in arms if not arm.conflict]
    for arm in arms:
        for name, text in arm.files.items():
            atomic_write(text.encode(), folder / name)
    return {arm.name: folder / f'{arm.name}.py' for arm in arms}


@dataclass(frozen=True)
class _Trained:
    """One training of the base config: its values without levers, its file, and the options that override it."""

    plain: dict[str, Any]
    config: str
    options: Mapping[str, Any]


def _with_files(arm: Arm, trained: _Trained, levers: Sequence[Lever], folder: Path) -> Arm:
    changes = _changes(arm, trained, levers)
    merge_changes(changes, _judged(trained.plain))
    text = _file(_title(arm), _named_from(trained.config, folder), changes)
    phases = [lever.name for lever in levers if lever.is_phase and lever.name in arm.levers]
    if not phases:
        return replace(arm, files={f'{arm.name}.py': text})
    head, first = f'{arm.name}_head.py', f'{arm.name}_supcon.py'
    chain = [dict(name='supcon', config=first), dict(name='head', config=head, test=False)]
    files = {
        head: text,
        first: _file(f'Arm {arm.name}, its first phase.', head, _supcon(trained.plain)),
        f'{arm.name}.py': f'"""{_title(arm)}"""\n\nphases = {pformat(chain, width=110)}\n',
    }
    return replace(arm, files=files)


def _with_phases(
    arm: Arm,
    cfg: Any,
    config: str,
    phases: Sequence[Phase],
    trained: Sequence[_Trained],
    levers: Sequence[Lever],
    folder: Path,
) -> Arm:
    files, chain = {}, []
    for phase, one in zip(phases, trained, strict=True):
        changes = _changes(arm, one, levers, with_head=phase is phases[-1])
        merge_changes(changes, _judged(one.plain) if phase is phases[-1] else _timed())
        name = f'{arm.name}_{phase.folder_name}.py'
        files[name] = _file(f'Arm {arm.name}, phase {phase.name}.', _named_from(one.config, folder), changes)
        chain.append({**cfg.phases[phase.number - 1], 'config': name, 'test': False})
    files[f'{arm.name}.py'] = _file(_title(arm), _named_from(config, folder), dict(phases=chain))
    return replace(arm, files=files)


def _title(arm: Arm) -> str:
    return f'Arm {arm.name}: {listed(arm.levers) or "no lever"}.'


def _changes(arm: Arm, trained: _Trained, levers: Sequence[Lever], with_head: bool = True) -> Changes:
    """Return the config changes that an arm makes to one training, without those of the head if it has another one."""
    changes: Changes = {}
    for lever in levers:
        merge_changes(changes, (lever.on if lever.name in arm.levers else lever.off)(trained.plain))
    if not with_head:
        changes.get('model', {}).pop('head', None)
    for key in trained.options:
        for path, _ in leaves_in(changes):
            if f'{dotted(path)}.'.startswith(f'{key}.') or f'{key}.'.startswith(f'{dotted(path)}.'):
                raise ConfigError(
                    f'ablate: the option {key} would overrule what a lever sets in the arm {arm.name} '
                    f'({dotted(path)}). Leave one of the two out.'
                )
    return changes


def _judged(plain: Mapping) -> Changes:
    """Return the changes that all arms share: the validation likelihood and the measurement of step costs."""
    evaluators = plain['val_evaluator']
    evaluators = deepcopy(evaluators if isinstance(evaluators, (list, tuple)) else [evaluators])
    if not any(is_a('METRICS', one, CalibrationMetric) for one in evaluators):
        evaluators = [*evaluators, dict(type='CalibrationMetric')]
    return dict(val_evaluator=evaluators, **_timed())


def _timed() -> Changes:
    return dict(default_hooks=dict(step_cost=dict(type='StepCostHook')))


def _supcon(plain: Mapping) -> Changes:
    """Return the changes for a first SupCon phase, whose two views are made by the training's own transforms."""
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
    raise ConfigError('ablate: expected a training dataset with a pipeline, which two views can be made of, got none.')


def _named_from(config: str, folder: Path) -> str:
    return config if '::' in config else os.path.relpath(config, folder)


def _file(title: str, base: str, changes: Changes) -> str:
    lines = [f'"""{title}"""', '', f'_base_ = {base!r}']
    lines += [f'{key} = {pformat(value, width=110, sort_dicts=False)}' for key, value in changes.items()]
    return '\n'.join(lines) + '\n'
