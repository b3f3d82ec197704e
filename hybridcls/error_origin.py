"""Find out whose code an unexpected error comes from: that of hybridcls, of a plugin, or of a library.

Nothing heavy is imported here, because an error may come before anything is.
"""

import functools
import os
import re
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from traceback import walk_tb
from typing import NamedTuple, Optional

__all__ = ['Place', 'describe_origin', 'places_of']

_PACKAGE = Path(__file__).resolve().parent
_IN_WORKER = 'Original Traceback (most recent call last):'  # torch's, in the text of an error of a worker process
_MAX_PARTS = 3


class Place(NamedTuple):
    """A line of code that an error passed.

    Args:
        file (str): Its file.
        line (int): Its number, from 1.
        function (str): Name of the function, with its class if it is a method.
        owner (str): ``'hybridcls'``; ``'user'`` for a plugin and every other file outside of installed packages;
            else the name of the library.
    """

    file: str
    line: int
    function: str
    owner: str

    def __str__(self) -> str:
        return f'{_short(self.file)}, line {self.line}, in {self.function}'


def places_of(error: BaseException) -> list[Place]:
    """Return where an error came through, the outermost first: in a worker process of a data loader, too."""
    places = []
    for frame, line in walk_tb(error.__traceback__):
        code = frame.f_code
        owner = frame.f_locals.get('self')
        is_method = code.co_argcount and code.co_varnames[0] == 'self' and owner is not None
        name = f'{type(owner).__name__}.{code.co_name}' if is_method else code.co_name
        places.append((code.co_filename, line, name))
    _, found, remote = str(error).rpartition(_IN_WORKER)
    lines = re.findall(r'^ +File "(.+)", line (\d+), in (.+)$', remote, re.MULTILINE) if found else []
    places += [(file, int(line), name) for file, line, name in lines]
    if isinstance(error, SyntaxError) and error.filename:  # of a file that is imported: it has no frame
        places.append((error.filename, error.lineno or 1, '<module>'))
    return [Place(file, line or 1, name, _owner(file)) for file, line, name in places]


def describe_origin(error: BaseException) -> str:
    """Return a sentence that says whose code an unexpected error comes from."""
    users = next((place for one in _chain(error) for place in reversed(places_of(one)) if place.owner == 'user'), None)
    places = [place for place in places_of(error) if place.owner]
    last = places[-1] if places else None
    ours = next((place for place in reversed(places) if place.owner == 'hybridcls'), None)
    raised = str(last) if last is not None and last.owner not in ('user', 'hybridcls') else ''
    if users is not None and ours is not None and users in places and places.index(users) < places.index(ours):
        return (
            f'This comes from hybridcls ({ours}), called by code outside it: {users}. If what it passes is what the '
            'docstring asks for, this is a bug in hybridcls.'
        )
    if users is not None:
        by = f', where {raised} raised it' if raised else ''
        return f'This comes from code outside hybridcls: {users}{by}. Repair it there.'
    where = f'{ours}{f"; raised by {raised}" if raised else ""}' if ours is not None else raised
    others = _registered_by_users()
    hint = f' Or a part of yours gives it what it does not expect: {", ".join(others)}.' if others else ''
    return f'This is a bug in hybridcls{f" ({where})" if where else ""}.{hint}'


def _chain(error: Optional[BaseException]) -> Iterator[BaseException]:
    """Yield an error, then those that it was raised from or while handling: a library may have raised it again."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _owner(file: str) -> str:
    """Return whose code a file is, as ``Place.owner``; ``''`` where there is no such file."""
    if not os.path.isfile(file):  # '<string>', '<frozen importlib._bootstrap>', '<__array_function__ internals>'
        return ''
    path = Path(file).resolve()
    main = getattr(sys.modules['__main__'], '__file__', None)
    if _PACKAGE in path.parents or (main is not None and path == Path(main).resolve()):  # the main: tools/train.py
        return 'hybridcls'
    for folder in _package_folders():
        if folder in path.parents:
            package = path.relative_to(folder).parts[0].removesuffix('.py')
            return 'user' if _is_plugin(package) else package
    return 'Python' if any(folder in path.parents for folder in _python_folders()) else 'user'


def _package_folders() -> list[Path]:
    paths = sysconfig.get_paths()
    named = [paths['purelib'], paths['platlib'], site.getusersitepackages()]
    named += [path for path in sys.path if os.path.basename(path) in ('site-packages', 'dist-packages')]
    return [Path(path).resolve() for path in named]


def _python_folders() -> list[Path]:
    paths = sysconfig.get_paths()
    return [Path(paths[name]).resolve() for name in ('stdlib', 'platstdlib')]


def _is_plugin(package: str) -> bool:
    """Whether an installed package needs hybridcls, so is one of its plugins."""
    from importlib.metadata import requires

    for distribution in _distributions(tuple(sys.path)).get(package, ()):
        if any(re.match(r'hybridcls\b', one, re.IGNORECASE) for one in requires(distribution) or ()):
            return True
    return False


@functools.lru_cache(maxsize=1)
def _distributions(path: tuple[str, ...]) -> Mapping[str, list[str]]:
    """Return what is installed on a path, by package; it reads the list of files of everything, which takes a while."""
    from importlib.metadata import packages_distributions

    return packages_distributions()


def _registered_by_users() -> list[str]:
    """Name some registered parts that are defined outside of hybridcls and of libraries, with their files."""
    registries = sys.modules.get('hybridcls.registry')
    found: set[str] = set()
    owners: dict[str, str] = {}
    for name in getattr(registries, '__all__', ()):
        registry = getattr(registries, name)
        while registry is not None:  # a plugin may be registered with mmpretrain or mmengine, too
            for part in registry.module_dict.values():
                file = getattr(sys.modules.get(getattr(part, '__module__', '')), '__file__', None) or ''
                if file not in owners:
                    owners[file] = _owner(file)
                if owners[file] == 'user':
                    found.add(f'{part.__name__} ({_short(file)})')
            registry = registry.parent
    names = sorted(found)
    return [*names[:_MAX_PARTS], f'{len(names) - _MAX_PARTS} others'] if len(names) > _MAX_PARTS else names


def _short(file: str) -> str:
    """Return a path from the working folder if the file is below it; that of a package from its root."""
    path = Path(file).resolve()
    # Those of packages come first: an environment often lies in the clone.
    for folder in (*_package_folders(), _PACKAGE.parent) if _owner(file) != 'user' else (Path.cwd(),):
        if folder in path.parents:
            return str(path.relative_to(folder))
    return str(path)
