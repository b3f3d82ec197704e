"""hybridcls: plugins for image classification and representation learning, in the OpenMMLab style."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from .compat.mmengine import import_transformers_late, register_package
from .old_modules import find_old_modules
from .version import __version__

register_package('hybridcls')  # for `_base_ = 'hybridcls::digits/...'`
find_old_modules()
import_transformers_late()

load: Callable[..., Any]  # see __getattr__

__all__ = ['__version__', 'config_path', 'load']


def __getattr__(name: str) -> Any:
    if name == 'load':  # takes the seconds that torch and timm need
        return getattr(import_module(f'{__name__}.apis.inferencer'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def config_path(name: str) -> str:
    """Return the path of a shipped config, for tools that do not know this package.

    mmengine reads a base behind ``hybridcls::`` only after ``import hybridcls``. A config that any tool can read names
    it by an expression: ``_base_ = [__import__('hybridcls').config_path('hybrid/ce_convnext_swin_1gpu.py')]``.

    Args:
        name (str): As behind ``hybridcls::``; ``''`` is the folder of all.

    Returns:
        str: Absolute.

    Raises:
        FileNotFoundError: If there is no such config.
    """
    package = Path(__file__).resolve().parent
    folders = [folder for folder in (package / '.mim' / 'configs', package.parent / 'configs') if folder.is_dir()]
    found = next((folder / name for folder in folders if (folder / name).exists()), None)
    if found is None:
        from .checks import near_files

        raise FileNotFoundError(
            f'config_path: there is no config {name!r}.{near_files(str(folders[0] / name)) if folders else ""}'
        )
    return str(found)
