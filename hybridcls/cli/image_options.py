"""The options and first steps of commands that run a trained model on images."""

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Optional

from hybridcls.checks import check_file, near_files

from .device import add_device_option, hide_gpus
from .json_output import tell
from .quick_imports import quick_imports

if TYPE_CHECKING:
    from hybridcls.apis.inferencer import HybridInferencer

__all__ = ['add_image_options', 'check_images', 'check_model', 'open_model']

_MORE_IMAGES = ('.heic', '.heif', '.hif', '.jxl', '.avif', '.qoi')  # of plugins of Pillow


def add_image_options(parser: ArgumentParser, batch_size: bool = True, on_unreadable: bool = True) -> None:
    """Add the options that say how a model is run over images.

    Args:
        parser (ArgumentParser): Of the subcommand.
        batch_size (bool): Whether it has ``--batch-size``. Defaults to True.
        on_unreadable (bool): Whether it has ``--on-unreadable``. Defaults to True.
    """
    parser.add_argument(
        '--config',
        help='config instead of the one in the checkpoint: for bare weights, for parts of your own code, or as '
        '`hybridcls benchmark --out` wrote it',
    )
    if batch_size:
        parser.add_argument(
            '--batch-size',
            type=_positive,
            metavar='N',
            help='number of images in a batch; default: the batch size of the test',
        )
    parser.add_argument(
        '--workers',
        type=int,
        metavar='N',
        help='threads that read images ahead; default: the number of processors, at most 8',
    )
    if on_unreadable:
        parser.add_argument(
            '--on-unreadable',
            choices=['skip', 'error'],
            default='skip',
            help='what to do with an image that cannot be read: list and skip it, or end the run; default: skip',
        )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='use mixed precision, as `test --amp` does; default: the precision of the config',
    )
    add_device_option(parser)
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='allow the checkpoint to run the code that it contains; it may run any command with your rights',
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f'expected an integer of 1 or more, got {text!r}')
    return int(text)


def check_model(caller: str, args: Namespace) -> None:
    """Raise if the checkpoint or the config is not there, without the imports that take seconds."""
    if args.checkpoint is not None and '://' not in args.checkpoint and not os.path.isdir(args.checkpoint):
        check_file(caller, 'checkpoint', args.checkpoint)
    if args.config is not None and '::' not in args.config:
        check_file(caller, 'config', args.config)


def check_images(caller: str, paths: Iterable[str], what: str = 'the image') -> None:
    """Raise if there is no image for a path, as far as names tell; ``what`` it is stands in the message."""
    for path in paths:
        _check_images(caller, os.path.expanduser(path), what)


def open_model(args: Namespace, checkpoint: str, amp: Optional[bool], **more: Any) -> 'HybridInferencer':
    """Open the model that the options describe, and tell which it is."""
    hide_gpus(args.device)
    with quick_imports():
        from hybridcls.apis.inferencer import HybridInferencer
        from hybridcls.checkpoint_reading import trust_checkpoints

        if args.trust_checkpoint:
            trust_checkpoints()
        model = HybridInferencer(
            checkpoint, args.device, args.config, amp=amp, tell=lambda text: tell(text, sys.stderr), **more
        )
    tell(model.why, sys.stderr)
    return model


def _check_images(caller: str, path: str, what: str) -> None:
    """Raise if there is no image for a path, as far as names tell: a folder without any is found out at once."""
    if os.path.isdir(path):
        from PIL import Image

        endings = tuple(Image.registered_extensions()) + _MORE_IMAGES
        others: Counter[str] = Counter()
        for here, folders, files in os.walk(path):
            if any(os.path.islink(os.path.join(here, name)) for name in folders):
                return  # links may lead in circles: the listing itself knows how to follow them
            for name in files:
                if name.lower().endswith(endings):
                    return
                others[os.path.splitext(name)[1].lower() or 'without extension'] += 1
        there = ', '.join(f'{what} ({count})' for what, count in others.most_common(8))
        raise FileNotFoundError(
            f'{caller}: expected images below {path!r}, got none{f"; there are other files: {there}" if there else ""}.'
        )
    if not os.path.exists(path) and '://' not in path and not any(mark in path for mark in '*?['):
        raise FileNotFoundError(f'{caller}: {what} {path!r} does not exist.{near_files(path)}')
