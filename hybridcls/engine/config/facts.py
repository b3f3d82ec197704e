"""Flatten a config to facts about the training, which can be hashed and compared."""

import hashlib
import json
from typing import Any, Union

from mmengine.config import Config

from hybridcls.checks import listed

from .dumps import RECORD

__all__ = ['config_facts', 'differing_keys', 'fingerprint']

# They say where and on what machine a training runs, not what it learns.
_MACHINE_KEYS = {
    RECORD,
    'work_dir',
    'launcher',
    'load_from',
    'resume',
    'log_level',
    'env_cfg',
    'model_wrapper_cfg',
    'visualizer',
    'vis_backends',
    'log_processor',
    'experiment_name',
    'phases',
    'filename',
}
_MACHINE_KEYS_ANYWHERE = {'pin_memory', 'persistent_workers', 'num_workers', 'prefetch_factor', 'worker_init_fn'}


def config_facts(cfg: Union[Config, dict]) -> dict[str, str]:
    """Flatten a config to dotted keys and printed values, without keys that describe only the machine.

    Example:
        >>> config_facts(Config(dict(model=dict(widths=[8, 16]), work_dir='here')))
        {'model.widths.0': '8', 'model.widths.1': '16'}
    """
    facts: dict[str, str] = {}

    def walk(node: Any, path: tuple[str, ...]) -> None:
        if path and (path[-1] in _MACHINE_KEYS_ANYWHERE or (len(path) == 1 and path[0] in _MACHINE_KEYS)):
            return
        if isinstance(node, dict) and node:
            for key in sorted(node, key=str):
                walk(node[key], (*path, str(key)))
        elif isinstance(node, (list, tuple)) and node:
            for index, value in enumerate(node):
                walk(value, (*path, str(index)))
        else:
            facts['.'.join(path)] = repr(list(node) if isinstance(node, tuple) else node)

    walk(cfg.to_dict() if isinstance(cfg, Config) else cfg, ())
    return facts


def fingerprint(facts: dict[str, str]) -> str:
    """Return a hash of the facts of a config."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def differing_keys(old: dict[str, str], new: dict[str, str], most: int = 6) -> str:
    """Describe the keys that differ, with both values.

    Example:
        >>> differing_keys({'a': '1', 'b': '2'}, {'a': '1', 'b': '3'})
        'b (2, now 3)'
    """
    keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    return listed((f'{key} ({old.get(key, "not there")}, now {new.get(key, "not there")})' for key in keys), most)
