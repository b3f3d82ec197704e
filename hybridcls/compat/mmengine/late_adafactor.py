"""Delay mmengine's import of transformers (for one optimizer's name), which takes a quarter of each start."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec, spec_from_file_location
from types import ModuleType
from typing import Any, Optional

__all__ = ['adafactor', 'import_transformers_late']

_BUILDER = 'mmengine.optim.optimizer.builder'


def adafactor(params: Any, **arguments: Any) -> Any:
    """Import transformers, and build its Adafactor.

    Args:
        params (Iterable): Parameters, or groups of them.
        **arguments: Its own.
    """
    from transformers import Adafactor

    return Adafactor(params, **arguments)


def import_transformers_late() -> None:
    """Make mmengine's optimizers import without transformers, unless either has been imported already.

    ``Adafactor`` is registered all the same, and imports transformers when it is built.
    """
    if _BUILDER not in sys.modules and not any(isinstance(finder, _BuilderFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _BuilderFinder())


class _BuilderFinder(MetaPathFinder):
    """Replace the loader, once, of the one module that imports transformers."""

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[ModuleSpec]:
        if fullname != _BUILDER:
            return None
        sys.meta_path.remove(self)
        found = PathFinder.find_spec(fullname, path)
        if found is None or found.origin is None or 'transformers' in sys.modules or not find_spec('transformers'):
            return found
        return spec_from_file_location(fullname, found.origin, loader=_BuilderLoader(fullname, found.origin))


class _BuilderLoader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        sys.modules['transformers'] = None  # type: ignore[assignment]  # Python's way to say: not importable
        try:
            super().exec_module(module)
        finally:
            del sys.modules['transformers']
        module.OPTIMIZERS.register_module(name='Adafactor', module=adafactor)
        module.TRANSFORMERS_OPTIMIZERS.append('Adafactor')
