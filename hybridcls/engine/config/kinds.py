"""Check top-level keys for values of a wrong type, such as ``optim_wrapper='SGD'``."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from mmengine.config import Config

from .layers import ConfigError
from .tree import ABSENT, Path, dotted, value_at

__all__ = ['check_kinds']

_DICTS = (
    'auto_scale_lr', 'data_preprocessor', 'default_hooks', 'env_cfg', 'log_processor', 'model', 'model_wrapper_cfg',
    'optim_wrapper', 'randomness', 'strategy', 'test_cfg', 'train_cfg', 'tta_model', 'val_cfg', 'visualizer',
)  # fmt: skip
_LISTS = ('custom_hooks', 'phases')
_TEXTS = ('default_scope', 'launcher', 'load_from')
_OPTIMIZER = ('optim_wrapper', 'optimizer')
_NUMBERS = (('lr',), (*_OPTIMIZER, 'lr'), (*_OPTIMIZER, 'weight_decay'))
_INTEGERS = (('seed',), ('randomness', 'seed'))


def check_kinds(cfg: Config) -> None:
    """Raise a ConfigError that names the first key whose value is of another type than its readers take.

    Objects that were built by code pass.
    """
    for path, kinds in _places(cfg):
        value = value_at(cfg, path)
        is_plain = isinstance(value, (str, bool, int, float, list, tuple, dict))
        if is_plain and not isinstance(value, kinds):
            names: dict[type, str] = {dict: 'a dict', str: 'text', float: 'a number', int: 'an integer'}
            expected = names.get(kinds[0], 'a list')
            raise ConfigError(f'{dotted(path)}: expected {expected}, got {value!r}.{_advice(value, kinds)}')


def _advice(value: Any, kinds: tuple[type, ...]) -> str:
    if isinstance(value, dict) and list in kinds:
        return ' Write [dict(...)].'
    if isinstance(value, str) and float in kinds:
        with suppress(ValueError):
            return f' Write it without quotation marks; in YAML as {float(value):.1e}.'  # 1e-3 is text there
    return ''


def _places(cfg: Config) -> Iterator[tuple[Path, tuple[type, ...]]]:
    for keys, kinds in ((_DICTS, (dict,)), (_LISTS, (list, tuple)), (_TEXTS, (str,))):
        yield from (((key,), kinds) for key in keys if key in cfg)
    for paths, of_numbers in ((_NUMBERS, (float, int)), (_INTEGERS, (int,))):
        yield from ((path, of_numbers) for path in paths if value_at(cfg, path) is not ABSENT)
    schedulers: Any = cfg.get('param_scheduler')
    for key, parts in (('custom_hooks', cfg.get('custom_hooks')), ('param_scheduler', schedulers)):
        for number in range(len(parts) if isinstance(parts, (list, tuple)) else 0):
            yield (key, number), (dict,)
    yield from ((('default_hooks', name), (dict,)) for name in cfg.get('default_hooks') or {})
