"""Private parts of mmpretrain that hybridcls uses. Run with onedl-mmpretrain 1.3.0 and 1.3.6.

mmpretrain turns its multimodal code on where pycocotools and transformers are installed, and dies at its import where
transformers no longer has what that code takes from it: run with 4.57.6, which has, and 5.24.0, which has not.
"""

import ast
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from mmpretrain.utils import dependency

__all__ = ['import_mmcv_quietly', 'multimodal_can_be_imported', 'note_config', 'switch_off_broken_multimodal']


def switch_off_broken_multimodal() -> None:
    """Disable mmpretrain's multimodal code if it cannot be imported; call this before importing its models.

    Its models then stand in the registry as if pycocotools were missing: to build one is an ImportError.
    """
    if dependency.WITH_MULTIMODAL and not multimodal_can_be_imported():
        dependency.WITH_MULTIMODAL = False


def import_mmcv_quietly() -> None:
    """Import what mmpretrain's models need of mmcv, which warns of compiled operations that nothing here uses.

    The filters of the process stay what they are.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)
        import_module('mmcv.cnn.bricks.transformer')


def multimodal_can_be_imported() -> bool:
    """Return whether transformers has every name that mmpretrain's multimodal code imports from it."""
    for module, name in sorted(_taken_from_transformers()):
        try:
            found = hasattr(import_module(module), name)
        except Exception:  # transformers, or what a part of it needs, is itself broken
            return False
        if not found:
            return False
    return True


def note_config(model: Any, cfg: Any) -> None:
    """Attach its config to a model, where mmpretrain's inferencers look for it."""
    model._config = cfg


def _taken_from_transformers() -> Iterator[tuple[str, str]]:
    models = Path(dependency.__file__).parents[1] / 'models'
    for file in [*(models / 'multimodal').rglob('*.py'), *(models / 'utils').glob('*.py')]:
        source = file.read_text(encoding='utf8')
        if 'from transformers' in source:
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.ImportFrom) and (node.module or '').partition('.')[0] == 'transformers':
                    yield from ((str(node.module), alias.name) for alias in node.names)
