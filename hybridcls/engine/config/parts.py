"""Check the parts that a run builds from its config: each needs a type, and takes only certain keys."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from hybridcls.checks import check_known_keys, without_type
from hybridcls.signatures import arguments_of

from .layers import ConfigError
from .schedules import scheduler_groups
from .taker import UNREAD
from .takers import DEFAULT_HOOKS, takers_of
from .tree import Path, dataloaders_in, dotted, value_at, walk

__all__ = ['check_parts']

_OF_TRAINING = ('train_cfg', 'train_dataloader', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr')
_EARLIER = dict(samples_per_gpu='batch_size', workers_per_gpu='num_workers')  # of dataloaders, in MMClassification 0.x
_OF_TEST = ('test_cfg', 'test_dataloader', 'test_evaluator', 'tta_model', 'tta_pipeline')


def check_parts(cfg: Config, is_test: bool = False) -> None:
    """Raise for the first part of a config that cannot be built: it has no type, or an unknown key.

    Parts that this run does not build are left alone: those of a test in a training, those of a training in a test,
    and the wrapper of the model in a single process.

    Raises:
        ConfigError: If a part has no ``type``.
        TypeError: If a class takes no such key; names those that it takes.
    """
    unbuilt = {*((*_OF_TRAINING, 'val_cfg', 'val_dataloader', 'val_evaluator') if is_test else _OF_TEST), 'strategy'}
    if cfg.get('launcher', 'none') == 'none':
        unbuilt.add('model_wrapper_cfg')
    for path, siblings in _places_of_parts(cfg):
        part = value_at(cfg, path)
        if path[0] not in unbuilt and isinstance(part, dict) and part.get('type') is None:
            raise ConfigError(without_type(dotted(path), part, siblings))
    takers = takers_of(cfg)
    for path, taker in takers.found.items():
        if taker.status != UNREAD or path[0] in unbuilt:
            continue
        kind = takers.parts.get(path[:-1])
        if kind is None:
            known = _EARLIER.get(str(path[-1]))
            advice = f'nothing reads this key of an earlier release. Write {known}.' if known else taker.name
            raise ConfigError(f'{dotted(path)}: {advice}')
        check_known_keys(f'{dotted(path)}: {kind.__name__}', [str(path[-1])], arguments_of(kind)[0])


def _places_of_parts(cfg: Config) -> Iterator[tuple[Path, list[str]]]:
    """Yield the paths where a dict must have a type, and the keys that may be mistyped for ``type`` there."""
    hooks: Any = cfg.get('default_hooks') or {}
    for name in hooks:
        typed = [other for other, hook in hooks.items() if isinstance(hook, dict) and 'type' in hook]
        yield ('default_hooks', name), [*typed, *DEFAULT_HOOKS]
    for number in range(len(cfg.get('custom_hooks') or [])):
        yield ('custom_hooks', number), []
    for group in scheduler_groups(cfg.get('param_scheduler')):
        yield from ((path, []) for path, _ in group)
    yield ('model',), []
    yield ('optim_wrapper', 'optimizer'), []
    for path, loader in dataloaders_in(cfg):
        yield from (((*path, key), [*loader]) for key in ('dataset', 'sampler', 'batch_sampler') if key in loader)
        yield from ((place, []) for place in _items(loader, path) if str(place[-2]).endswith('pipeline'))
    for key in ('val_evaluator', 'test_evaluator'):
        evaluator: Any = cfg.get(key)
        if isinstance(evaluator, dict) and 'metrics' not in evaluator:
            yield (key,), []
        yield from ((place, []) for place in _items(evaluator, (key,)) if place[-2] in (key, 'metrics'))


def _items(node: Any, path: Path) -> Iterator[Path]:
    """Yield the paths of list items."""
    yield from (place for place, _ in walk(node, path) if len(place) > len(path) and isinstance(place[-1], int))
