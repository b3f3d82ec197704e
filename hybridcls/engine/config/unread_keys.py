"""Find top-level keys that nothing reads: mistyped ones, those of earlier releases, unused variables."""

import difflib
from collections.abc import Iterable
from typing import Any

from mmengine.config import Config

from hybridcls.checks import did_you_mean

from .change import RECORD
from .layers import RUNNER_KEYS, Layers
from .shared_keys import SHARED_KEYS

__all__ = ['OWN_ENVIRONMENT', 'unread_key', 'unread_option', 'unread_variables']

READ_KEYS = (*RUNNER_KEYS, *SHARED_KEYS, RECORD)
OWN_ENVIRONMENT = ('tf32', 'compile_streams', 'channels_last')
"""Keys of ``env_cfg`` that are read here, not by mmengine."""
# Of these dicts mmengine takes what it knows and passes over the rest.
_READ_IN = dict(
    env_cfg=('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit', *OWN_ENVIRONMENT),
    auto_scale_lr=('enable', 'base_batch_size'),
)
_NEARLY = 0.85  # likeness of two names: a typo, hardly a variable of the user's own
# Keys of OpenMMLab's earlier releases and of other packages, and what to write here.
_ELSEWHERE = dict(
    checkpoint_config='default_hooks = dict(checkpoint=dict(interval=1))',
    classes="metainfo=dict(classes=[...]) in the dataset, or ImageFolder's classes=[...]",
    data='train_dataloader, val_dataloader and test_dataloader',
    cudnn_benchmark='env_cfg = dict(cudnn_benchmark=...)',
    data_cfg='train_dataloader, val_dataloader and test_dataloader',
    device='--device cpu, cuda:N or mps',
    dist_params="env_cfg = dict(dist_cfg=dict(backend='nccl'))",
    epochs='max_epochs = ...',
    num_epochs='max_epochs = ...',
    total_epochs='max_epochs = ...',
    evaluation='val_evaluator, train_cfg.val_interval and default_hooks.checkpoint.save_best',
    fp16="--amp, or optim_wrapper = dict(amp='float16')",
    gpu_ids='--device cuda:N, or tools/dist_train.sh for several GPUs',
    gpus='--device cuda:N, or tools/dist_train.sh for several GPUs',
    log_config='default_hooks = dict(logger=dict(interval=50)), and visualizer',
    lr_config='param_scheduler = [...]',
    learning_rate='lr = ...',
    momentum_config='param_scheduler = [...]',
    optimizer='optim_wrapper = dict(optimizer=...)',
    optimizer_config='optim_wrapper = dict(clip_grad=...)',
    resume_from='--resume CHECKPOINT, or load_from = ... and resume = True',
    runner='train_cfg = dict(by_epoch=True), max_epochs = ...',
    vis_backends='visualizer = dict(vis_backends=[...])',
    workflow='train_cfg = dict(val_interval=1)',
)


def unread_option(values: dict, layers: Layers, options: Iterable[str]) -> str:
    """Return a sentence about the first option whose top-level key nothing reads, or an empty string."""
    for option in options:
        key = option.split('.', 1)[0]
        if key in READ_KEYS or any(variable[0] == key for variable in layers.references.values()):
            continue
        if key not in values:
            advice = f' Write {_ELSEWHERE[key]}.' if key in _ELSEWHERE else did_you_mean(key, [*READ_KEYS, *values])
            return (
                f'--cfg-options {option}: nothing reads the top-level key {key!r}, which is not in the config either.'
                f'{advice}'
            )
        files = [file for file, used in layers.used.items() if key in used]
        if files:
            return (
                f'--cfg-options {option}: {files[0]} uses {key!r} in an expression, which is computed when the file '
                'is read. Set the key that the expression is for.'
            )
        return f'--cfg-options {option}: nothing reads the top-level key {key!r}.{_advice(key)}'
    return ''


def unread_key(values: dict, layers: Layers) -> str:
    """Return a sentence about the keys that are certainly mistakes, or an empty string.

    That is one that is nearly a key that is read, or one of earlier releases. A config may hold variables of its own.
    """
    wrong = [
        key
        for key in _unused(values, layers)
        if key in _ELSEWHERE or difflib.get_close_matches(key, READ_KEYS, n=1, cutoff=_NEARLY)
    ]
    if len(wrong) > 1:
        return 'nothing reads these top-level keys:' + ''.join(f'\n  {key!r}.{_advice(key)}' for key in wrong)
    if wrong:
        return f'nothing reads the top-level key {wrong[0]!r}.{_advice(wrong[0])}'
    for name, read in _READ_IN.items():
        inner: Any = values.get(name) or {}
        for key in inner:
            if key not in read:
                return f'nothing reads the key {name}.{key}.{did_you_mean(key, read)} Known keys: {", ".join(read)}.'
    return ''


def unread_variables(cfg: Config, layers: Layers) -> list[str]:
    """Return the variables of the nearest file that are used neither there nor elsewhere."""
    variables = []
    for key in _unused(cfg, layers):
        rank = max((layer.rank for path, layer in layers.origins.items() if path[0] == key), default=-1)
        if rank == 0:
            variables.append(key)
    return variables


def _unused(values: Any, layers: Layers) -> list[str]:
    used = set().union(*layers.used.values()) if layers.used else set()
    nearest = list(layers.used.values())[-1] if layers.used else set()  # of YAML and JSON no names can be seen
    unused = []
    for key in values:
        if key in READ_KEYS or any(variable[0] == key for variable in layers.references.values()):
            continue
        written_here = any(path[0] == key and layer.rank >= 0 for path, layer in layers.origins.items())
        if key not in (nearest if written_here else used):
            unused.append(key)
    return unused


def _advice(key: str) -> str:
    return f' Write {_ELSEWHERE[key]}.' if key in _ELSEWHERE else did_you_mean(key, READ_KEYS)
