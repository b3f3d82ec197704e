"""Keys that nobody would read: mistyped ones, which would change nothing and say nothing."""

import difflib
import re
from collections.abc import Iterable
from typing import Any

from mmengine.config import Config

from hybridcls.checks import did_you_mean

from .said_once import SAID_ONCE

__all__ = ['unread_option', 'unread_key']

# What mmengine's Runner and hybridcls read at the top level of a config.
_READ = (
    'model',
    'work_dir',
    'train_dataloader',
    'val_dataloader',
    'test_dataloader',
    'train_cfg',
    'val_cfg',
    'test_cfg',
    'auto_scale_lr',
    'optim_wrapper',
    'param_scheduler',
    'val_evaluator',
    'test_evaluator',
    'default_hooks',
    'custom_hooks',
    'data_preprocessor',
    'load_from',
    'resume',
    'launcher',
    'env_cfg',
    'log_processor',
    'log_level',
    'visualizer',
    'default_scope',
    'randomness',
    'experiment_name',
    'runner_type',
    'strategy',
    'custom_imports',
    'model_wrapper_cfg',
    'find_unused_parameters',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
    'compile',
    'activation_checkpointing',
    'efficient_conv_bn_eval',
    'phases',
    *SAID_ONCE,
)
# Of these dicts mmengine takes what it knows and passes over the rest.
_READ_IN = dict(
    env_cfg=('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'), auto_scale_lr=('enable', 'base_batch_size')
)
_NEARLY = 0.85  # likeness of two names: a typo, hardly a variable of the user's own


def unread_option(cfg: Config, options: Iterable[str]) -> str:
    """Return a sentence about the first option whose top-level key neither the config nor anybody knows, or ''."""
    for option in options:
        key = option.split('.', 1)[0]
        if key not in cfg and key not in _READ:
            known = [*_READ, *cfg]
            return (
                f'--cfg-options {option}: nothing reads the top-level key {key!r}, which is not in the config '
                f'either.{did_you_mean(key, known)}'
            )
    return ''


def unread_key(cfg: Config) -> str:
    """Return a sentence about a key in the file that is nearly one that is read, and is itself not used, or ''.

    A config may hold variables of its own: one that occurs a second time in the files is used there.
    """
    for key in cfg:
        near = difflib.get_close_matches(key, _READ, n=1, cutoff=_NEARLY)
        if near and key not in _READ and len(re.findall(rf'\b{re.escape(key)}\b', cfg.text)) < 2:
            return f'nothing reads the top-level key {key!r}. Did you mean {near[0]!r}?'
    for name, read in _READ_IN.items():
        inner: Any = cfg.get(name) or {}
        for key in inner:
            if key not in read:
                return f'nothing reads the key {name}.{key}.{did_you_mean(key, read)} Known keys: {", ".join(read)}.'
    return ''
