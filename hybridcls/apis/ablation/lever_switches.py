"""Levers: the config changes that switch one method on or off."""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from hybridcls.checks import did_you_mean
from hybridcls.engine.config.tree import ABSENT, Path, dotted, path_of, put_at, same, value_at
from hybridcls.literals import read_literal

__all__ = ['LEVERS', 'Changes', 'Lever', 'changes_at', 'contradiction', 'lever_of', 'merge_changes']

Changes = dict[str, Any]
"""What a child config writes: nested keys to values."""


@dataclass(frozen=True)
class Lever:
    """A method that an ablation switches on and off by config changes.

    Args:
        name (str): Its name on the command line.
        on (Callable): From the config to the changes that switch it on; none if it is on already.
        off (Callable): From the config to the changes that switch it off; none if it is off already.
        is_phase (bool): Whether it is a training before the training (SupCon), so that the arm is a chain.
    """

    name: str
    on: Callable[[Mapping], Changes]
    off: Callable[[Mapping], Changes]
    is_phase: bool = False


def changes_at(key: str, value: Any) -> Changes:
    """Return the changes that set the value at a dotted key."""
    changes: Changes = {}
    path = path_of(key)
    for depth in range(1, len(path)):
        put_at(changes, path[:depth], {})
    put_at(changes, path, value)
    return changes


def _value(cfg: Mapping, key: str) -> Any:
    found = value_at(cfg, path_of(key))
    return None if found is ABSENT else found


def _switch(name: str, key: str, on: Any, off: Any) -> Lever:
    """Return a lever that sets one key to ``on`` or ``off``."""
    return Lever(
        name,
        lambda cfg: {} if _value(cfg, key) else changes_at(key, on),
        lambda cfg: changes_at(key, off) if _value(cfg, key) else {},
    )


def _stage(name: str, **stage: Any) -> Lever:
    """Return a lever for a stage of the update; an optimizer wrapper without stages becomes one that has them."""

    def kind_of(cfg: Mapping) -> Changes:
        return {} if _value(cfg, 'optim_wrapper.type') else dict(type='ComposedOptimWrapper')

    def named(cfg: Mapping) -> list[str]:
        stages = _value(cfg, 'optim_wrapper.stages') or {}
        return [key for key, one in stages.items() if one and one.get('type', '').rpartition('.')[2] == stage['type']]

    return Lever(
        name,
        lambda cfg: {} if named(cfg) else dict(optim_wrapper=dict(**kind_of(cfg), stages={name: dict(stage)})),
        lambda cfg: dict(optim_wrapper=dict(stages=dict.fromkeys(named(cfg)))) if named(cfg) else {},
    )


def _part(name: str, key: str, plain: Optional[str], **part: Any) -> Lever:
    """Return a lever that replaces a part of the model by the plain one, and keeps the keys that both have."""
    kept = ('fusion_dim', 'num_classes', 'in_channels')

    def is_there(cfg: Mapping) -> bool:
        return str(_value(cfg, f'{key}.type')).rpartition('.')[2] == part['type']

    def replaced(cfg: Mapping, by: Changes) -> Changes:
        old = _value(cfg, key) or {}
        return changes_at(key, dict(_delete_=True, **by, **{one: old[one] for one in kept if old.get(one) is not None}))

    return Lever(
        name,
        lambda cfg: {} if is_there(cfg) else replaced(cfg, part),
        lambda cfg: replaced(cfg, dict(type=plain)) if is_there(cfg) else {},
    )


def _hook(name: str, **hook: Any) -> Lever:
    def named(cfg: Mapping) -> list[str]:
        hooks = _value(cfg, 'default_hooks') or {}
        return [key for key, one in hooks.items() if one and one.get('type', '').rpartition('.')[2] == hook['type']]

    return Lever(
        name,
        lambda cfg: {} if named(cfg) else dict(default_hooks={name: dict(hook)}),
        lambda cfg: dict(default_hooks=dict.fromkeys(named(cfg))) if named(cfg) else {},
    )


LEVERS: dict[str, Lever] = {
    lever.name: lever
    for lever in (
        _stage('sam', type='SAM', rho=0.05),
        _stage('msam', type='MSAM'),
        _stage('friendly_sam', type='FriendlySAM'),
        _stage('lookahead', type='Lookahead', k=5, alpha=0.5),
        _stage('gc', type='GradientCentralization'),
        _switch('cbam', 'model.backbone.use_cbam', True, False),
        _switch('token_learner', 'model.backbone.token_learner_tokens', 8, 0),
        _switch('token_merging', 'model.backbone.token_merging_ratio', 0.3, 0.0),
        _switch('lora', 'model.backbone.lora_rank', 8, 0),
        _switch('label_smoothing', 'model.head.label_smoothing', 0.1, 0.0),
        _part('dha', 'model.neck', 'ConcatFusion', type='DHAFusion'),
        _part('arcface', 'model.head', 'LinearHead', type='ArcFaceHead'),
        _part('adaface', 'model.head', 'LinearHead', type='AdaFaceHead'),
        _part('evidential', 'model.head', 'LinearHead', type='EvidentialHead'),
        _hook('ema', type='EMAHook', ema_type='MomentumAnnealingEMA', gamma=1, momentum=0.002, update_buffers=True),
        Lever('supcon', lambda cfg: {}, lambda cfg: {}, is_phase=True),
    )
}
"""By name. A lever that the config has keeps the config's settings; one that it has not is switched on with these."""


def lever_of(text: str) -> Lever:
    """Return a lever by its name, or one of your own from ``NAME:KEY=VALUE,KEY=VALUE``.

    Args:
        text (str): ``'sam'``, or ``'big_lr:lr=0.1'``; values in Python syntax, words without quotes.

    Raises:
        ValueError: If there is no such lever, or the text has no such form.

    Example:
        >>> lever_of('big_lr:optim_wrapper.optimizer.lr=0.1').on({})
        {'optim_wrapper': {'optimizer': {'lr': 0.1}}}
    """
    name, colon, rest = text.partition(':')
    if not colon:
        if name not in LEVERS:
            raise ValueError(
                f'ablate: expected levers among {", ".join(LEVERS)}, or NAME:KEY=VALUE, got {text!r}.'
                f'{did_you_mean(name, LEVERS)}'
            )
        return LEVERS[name]
    if not name.isidentifier() or name in LEVERS or name in ('base', 'all'):
        raise ValueError(f'ablate: expected a new name of letters, digits and _ before the colon, got {text!r}.')
    changes: Changes = {}
    for option in _split(rest):
        key, equals, value = option.partition('=')
        if not equals or not key.strip():
            raise ValueError(f'ablate: expected NAME:KEY=VALUE, separated by commas, got {option!r} in {text!r}.')
        path = path_of(key.strip())
        place = next((place for place, part in enumerate(path) if isinstance(part, int)), None)
        if place is not None:  # an arm is a config that inherits, and no config changes a part of another one's list
            raise ValueError(
                f'ablate: expected a key without numbers in the lever {name!r}, got {key.strip()!r}, which is in '
                f'a list. Set the whole list: {dotted(path[:place])}=[...].'
            )
        merge_changes(changes, changes_at(key.strip(), _literal(value.strip())))
    return Lever(name, lambda cfg: changes, lambda cfg: {})


def _split(text: str) -> list[str]:
    """Split at the commas that stand in no brackets or quotes."""
    parts, depth, quote = [''], 0, ''
    for letter in text:
        if quote:
            quote = '' if letter == quote else quote
        elif letter in '\'"':
            quote = letter
        elif letter in '([{':
            depth += 1
        elif letter in ')]}':
            depth -= 1
        if letter == ',' and depth == 0 and not quote:
            parts.append('')
        else:
            parts[-1] += letter
    return parts


def _literal(text: str) -> Any:
    try:
        return read_literal(text)
    except (SyntaxError, ValueError):
        return text


def merge_changes(changes: Changes, more: Changes) -> None:
    """Merge ``more`` into ``changes`` in place; ``more`` wins."""
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(changes.get(key), dict):
            merge_changes(changes[key], value)
        else:
            changes[key] = copy.deepcopy(value)


def contradiction(one: Changes, other: Changes) -> str:
    """Return the dotted key that both changes write with different values; an empty string if there is none.

    Example:
        >>> contradiction(dict(model=dict(head=dict(type='A'))), dict(model=dict(head=dict(type='B', scale=2))))
        'model.head.type'
    """
    for path, value in _leaves(one):
        for other_path, other_value in _leaves(other):
            length = min(len(path), len(other_path))
            if path[:length] == other_path[:length] and (len(path) != len(other_path) or not same(value, other_value)):
                return dotted(path[:length])
    return ''


def _leaves(changes: Mapping, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the path and the value of every leaf; lists are leaves, since they replace each other."""
    for key, value in changes.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, key))
        elif key != '_delete_':
            yield (*path, key), value
