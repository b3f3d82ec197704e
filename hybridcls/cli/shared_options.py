"""``--data``, ``--model``, ``--epochs``, ...: short names of the config keys that users set most."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from hybridcls.checks import near_files

if TYPE_CHECKING:
    from mmengine.config import Config

__all__ = ['SHARED_OPTIONS', 'add_shared_options', 'check_shared_paths', 'load_with_options', 'values_of_keys']


class SharedOption(NamedTuple):
    """A short name of a key of the config.

    Args:
        key (str): The dotted key.
        metavar (str): What stands for the value in the help.
        kind (type): Of the value.
        help (str): What it is.
        is_path (bool): Whether it is the path of something that exists.
    """

    key: str
    metavar: str
    kind: Any
    help: str
    is_path: bool = False


def image_size(text: str) -> Any:
    """Read ``224`` or ``192,256`` (height, width)."""
    sizes = tuple(int(part) for part in text.split(','))
    if len(sizes) > 2 or min(sizes) < 1:
        raise ValueError(text)
    return sizes[0] if len(sizes) == 1 else sizes


_FOLDS = 'data_split.folds'
SHARED_OPTIONS = {
    'data': SharedOption(
        'data_root',
        'FOLDER',
        str,
        'training images: one folder for each class, or a CSV file with the columns path and label',
        True,
    ),
    'model': SharedOption('model_name', 'NAME', str, 'name of a timm model (`hybridcls list models`)'),
    'cnn': SharedOption('model.backbone.cnn.model_name', 'NAME', str, 'name of the timm model of the CNN stream'),
    'vit': SharedOption('model.backbone.vit.model_name', 'NAME', str, 'name of the timm model of the ViT stream'),
    'checkpoint': SharedOption(
        'checkpoint_path', 'FILE', str, 'file of pretrained weights that the model starts from', True
    ),
    'teacher': SharedOption('teacher', 'CHECKPOINT', str, 'distill from this teacher: checkpoint or work dir', True),
    'backward-compat': SharedOption(
        'backward_compat',
        'CHECKPOINT',
        str,
        'keep the new embeddings compatible with the index of this older model: checkpoint or work dir',
        True,
    ),
    'epochs': SharedOption('max_epochs', 'N', int, 'number of epochs to train'),
    'img-size': SharedOption('img_size', 'N', image_size, 'image size in pixels: N, or HEIGHT,WIDTH'),
    'batch-size': SharedOption('batch_size', 'N', int, 'number of images in a batch, for each process'),
    'lr': SharedOption('lr', 'RATE', float, 'learning rate'),
    'drop': SharedOption(
        'drop', 'TABLE', str, 'leave out the training images that TABLE (of `hybridcls audit`) marks as drop', True
    ),
    'relabel': SharedOption('relabel', 'TABLE', str, 'use the corrected labels of TABLE (of `hybridcls audit`)', True),
    'folds': SharedOption(_FOLDS, 'K', int, 'cross-validation: K trainings, one for each fold, as one resumable job'),
    'seed': SharedOption('seed', 'N', int, 'seed of the random number generators'),
}
"""By the name of the option, without its dashes."""


def add_shared_options(parser: ArgumentParser, names: Iterable[str] = SHARED_OPTIONS) -> None:
    """Add the options; each sets a key of the config, and of every phase of a chain."""
    group = parser.add_argument_group('short names of config keys')
    for name in names:
        one = SHARED_OPTIONS[name]
        group.add_argument(
            f'--{name}', dest=_dest(name), metavar=one.metavar, type=one.kind, help=f'{one.help} (key {one.key})'
        )


def given_options(args: Namespace) -> dict[str, Any]:
    """Return the options that were given, by name."""
    values = {name: getattr(args, _dest(name), None) for name in SHARED_OPTIONS}
    return {name: value for name, value in values.items() if value is not None}


def values_of_keys(args: Namespace) -> dict[str, Any]:
    """Return the values of the options that were given, by the dotted keys that they set."""
    return {SHARED_OPTIONS[name].key: value for name, value in given_options(args).items()}


def _dest(name: str) -> str:
    return f'shared_{name.replace("-", "_")}'  # `checkpoint` is an argument of `test`


def check_shared_paths(caller: str, args: Namespace) -> None:
    """Raise a FileNotFoundError for a path that does not exist, before the imports that take seconds."""
    for name, value in given_options(args).items():
        if SHARED_OPTIONS[name].is_path and '://' not in value and not os.path.exists(os.path.expanduser(value)):
            raise FileNotFoundError(
                f'{caller}: --{name} {value!r} does not exist (looked for {os.path.abspath(value)}).{near_files(value)}'
            )


def load_with_options(args: Namespace) -> 'Config':
    """Load ``args.config`` with ``--cfg-options`` and the shared options, which reach every phase of a chain.

    Raises:
        ConfigError: If a shared option fills no place of the config, or in no phase.
    """
    from hybridcls.engine import ConfigError, is_chain, load_config
    from hybridcls.engine.phases.plan import read_phases

    given = given_options(args)
    options = values_of_keys(args)
    try:
        cfg = load_config(args.config, args.cfg_options) if given else None
        if cfg is not None and is_chain(cfg):
            of_phases = {
                f'phases.{number}.cfg_options.{key}': value
                for number in range(len(cfg.phases))
                for key, value in options.items()
                if key != _FOLDS
            }
            of_chain = {key: value for key, value in options.items() if key == _FOLDS}  # each fold has all phases
            cfg = load_config(args.config, {**(args.cfg_options or {}), **of_chain, **of_phases})
            _check_taken([load_config(phase.config, phase.options) for phase in read_phases(cfg)], given)
            return cfg
        cfg = load_config(args.config, {**(args.cfg_options or {}), **options})
        if not is_chain(cfg):
            _check_taken([cfg], given)
        return cfg
    except ConfigError as error:
        text = str(error)
        for name in given:
            text = text.replace(f'--cfg-options {SHARED_OPTIONS[name].key}:', f'--{name}:')
        raise ConfigError(text) from error


def _check_taken(cfgs: list['Config'], given: dict[str, Any]) -> None:
    """Raise for a shared option whose value stands nowhere."""
    from hybridcls.engine import ConfigError
    from hybridcls.engine.config import SHARED_KEYS, provenance_of
    from hybridcls.engine.config.data_splits import open_splits
    from hybridcls.engine.config.shared_keys import reaches_a_place

    if 'folds' in given and not any(map(open_splits, cfgs)):
        raise ConfigError(
            f'--folds {given["folds"]}: no dataset of this config can be divided, which needs split=... and '
            'data_root, and neither data_prefix nor ann_file. Leave the option out.'
        )
    for name, value in given.items():
        key = SHARED_OPTIONS[name].key
        if key in SHARED_KEYS and not any(reaches_a_place(cfg, key) for cfg in cfgs):
            start = f'{key}={value!r} '
            notes = [note.removeprefix(start) for note in provenance_of(cfgs[-1]).notes if note.startswith(start)]
            raise ConfigError(
                f'--{name} {value}: {notes[0] if notes else "no part of this config takes it."} Set the key with '
                '--cfg-options, or leave the option out.'
            )
