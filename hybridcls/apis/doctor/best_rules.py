"""Findings about hooks that choose by a result: a rule that keeps the worst, and patience that never ends."""

from collections.abc import Iterator
from typing import Any

from mmengine.hooks import CheckpointHook, EarlyStoppingHook

from hybridcls.engine.config.tree import dotted, is_a, walk
from hybridcls.engine.runner.monitored_metric import rule_for

from .finding import NOTE, PROBLEM, Finding
from .subject import Subject

__all__ = ['check_rules']


def check_rules(subject: Subject, runner: Any) -> Iterator[Finding]:
    """Compare each written rule with the direction of its result."""
    for path, hook in walk({key: subject.get(key) for key in ('default_hooks', 'custom_hooks')}):
        if not isinstance(hook, dict):
            continue
        for kind, key in ((CheckpointHook, 'save_best'), (EarlyStoppingHook, 'monitor')):
            if is_a('HOOKS', hook, kind) and hook.get(key):
                yield from _rules(dotted(path), hook, key, runner)
        epochs, patience = subject.get('train_cfg.max_epochs'), hook.get('patience')
        are_numbers = isinstance(epochs, int) and isinstance(patience, int)
        if is_a('HOOKS', hook, EarlyStoppingHook) and are_numbers and patience >= epochs:
            where = dotted((*path, 'patience'))
            what = f'patience={patience} validations of {epochs} epochs: it never stops a training.'
            yield Finding(NOTE, where, what, f'{where}={max(1, epochs // 2)}')


def _rules(where: str, hook: dict, key: str, runner: Any) -> Iterator[Finding]:
    names, rules = ([one] if isinstance(one, str) else list(one or ()) for one in (hook[key], hook.get('rule')))
    for name, rule in zip(names, rules * len(names) if len(rules) == 1 else rules, strict=False):
        try:
            better = rule_for(key, name, runner)
        except ValueError:  # neither way is better
            continue
        if rule != better and name != 'auto':
            yield Finding(
                PROBLEM, f'{where}.rule',
                f'rule={rule!r}, and of {name} {better} is better: the worst is taken for the best.',
                f'{where}.rule: leave it out',
            )  # fmt: skip
