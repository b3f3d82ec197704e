"""``--data``, ``--model``, ``--epochs``, ...: short names of the keys of a config that are set most."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mmengine.config import Config

__all__ = ['SHARED_OPTIONS', 'add_shared_options', 'load_with_options']


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


SHARED_OPTIONS = {
    'data': SharedOption('data_root', 'FOLDER', str, 'images in class folders, or a CSV (path,label)', True),
    'model': SharedOption('model_name', 'NAME', str, 'timm model (`hybridcls list models`)'),
    'cnn': SharedOption('model.backbone.cnn.model_name', 'NAME', str, 'timm model of the CNN stream'),
    'vit': SharedOption('model.backbone.vit.model_name', 'NAME', str, 'timm model of the ViT stream'),
    'checkpoint': SharedOption('checkpoint_path', 'FILE', str, 'weights that the model starts from', True),
    'teacher': SharedOption('teacher', 'CHECKPOINT', str, 'teacher of a distillation: checkpoint or work dir', True),
    'epochs': SharedOption('max_epochs', 'N', int, 'length of the training'),
    'img-size': SharedOption('img_size', 'N', image_size, 'size of the images in pixels: N, or HEIGHT,WIDTH'),
    'batch-size': SharedOption('batch_size', 'N', int, 'images in a batch of one process'),
    'lr': SharedOption('lr', 'RATE', float, 'learning rate'),
    'seed': SharedOption('seed', 'N', int, 'seed of all random numbers'),
}
"""By the name of the option, without its dashes."""


def add_shared_options(parser: ArgumentParser, names: Iterable[str] = SHARED_OPTIONS) -> None:
    """Add the options; each sets a key of the config, and of every phase of a chain."""
    group = parser.add_argument_group('keys of the config by short names')
    for name in names:
        one = SHARED_OPTIONS[name]
        group.add_argument(
            f'--{name}', dest=_dest(name), metavar=one.metavar, type=one.kind, help=f'{one.help} (key {one.key})'
        )


def given_options(args: Namespace) -> dict[str, Any]:
    """Return the options that were given, by name."""
    values = {name: getattr(args, _dest(name), None) for name in SHARED_OPTIONS}
    return {name: value for name, value in values.items() if value is not None}


def _dest(name: str) -> str:
    return f'shared_{name.replace("-", "_")}'  # `checkpoint` is an argument of `test`


def load_with_options(caller: str, args: Namespace) -> 'Config':
    """Load ``args.config`` with ``--cfg-options`` and the shared options, which reach every phase of a chain."""
    from hybridcls.engine import load_config

    options = {SHARED_OPTIONS[name].key: value for name, value in given_options(args).items()}
    return load_config(args.config, {**(args.cfg_options or {}), **options})
