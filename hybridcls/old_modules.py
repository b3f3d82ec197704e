"""Modules, classes and functions under their names of version 0.1, which import with one warning."""

import inspect
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Optional

from .renames import MODULES, NAMES, warn_renamed

__all__ = ['answer_old_names', 'find_old_modules']


def answer_old_names(module: dict[str, Any]) -> None:
    """Make a module provide names that have moved elsewhere, or have been renamed in it.

    Args:
        module (dict): Its ``globals()``. (Set here, so that a type checker still knows what is not there.)
    """
    name = module['__name__']

    def __getattr__(attribute: str) -> Any:
        return _named(name, attribute)

    module['__getattr__'] = __getattr__


def find_old_modules() -> None:
    """Make modules importable by their old names; other finders come first, so no other import slows down."""
    if not any(isinstance(finder, _OldModules) for finder in sys.meta_path):
        sys.meta_path.append(_OldModules())


def _named(module: str, attribute: str) -> Any:
    old = f'{module}.{attribute}'
    if old not in NAMES:
        raise AttributeError(f'module {module!r} has no attribute {attribute!r}')
    warn_renamed(old, NAMES[old], _importer())
    place, _, name = NAMES[old].rpartition('.')
    return getattr(import_module(place), name)


def _importer() -> str:
    """Return the file that contains the import statement."""
    frame = inspect.currentframe()
    while (
        frame is not None
        and frame.f_back is not None
        and (frame.f_code.co_filename == __file__ or 'importlib' in frame.f_code.co_filename)
    ):
        frame = frame.f_back
    return 'an import' if frame is None else Path(frame.f_code.co_filename).name


class _OldModules(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[ModuleSpec]:
        return ModuleSpec(fullname, self) if fullname in MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _OldModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        new = MODULES[module.__name__]
        warn_renamed(module.__name__, new, _importer())
        import_module(new)


class _OldModule(ModuleType):
    """An alias of a module, which shares its attributes."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Once imported it hides, in its package, the function of its own name (`functional.class_statistics`).
        package, _, name = self.__name__.rpartition('.')
        return _named(package, name)(*args, **kwargs)

    def __getattr__(self, attribute: str) -> Any:
        if attribute == '__all__':
            old = [name.rpartition('.')[2] for name in NAMES if name.rpartition('.')[0] == self.__name__]
            return [*sys.modules[MODULES[self.__name__]].__all__, *old]
        if attribute.startswith('__'):
            raise AttributeError(f'module {self.__name__!r} has no attribute {attribute!r}')
        if f'{self.__name__}.{attribute}' in NAMES:
            return _named(self.__name__, attribute)
        return getattr(sys.modules[MODULES[self.__name__]], attribute)
