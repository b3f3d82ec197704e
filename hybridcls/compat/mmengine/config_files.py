"""Read mmengine's config files one layer at a time, by its private functions."""

import ast
import os
import re
import types
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Optional

from mmengine.config import Config, ConfigDict
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.fileio import load
from mmengine.utils import get_installed_path

__all__ = [
    'UnsetVariableError', 'ConfigSource', 'is_lazy_config', 'lazy_bases', 'merge', 'read_lazy_config', 'read_source',
    'register_package', 'run_source', 'shipped_config', 'with_scope',
]  # fmt: skip

# Top-level keys of a chain: they hold options of other configs, for which a `_delete_` is meant.
_OPTIONS = ('phases', 'cfg_options')


_WITHOUT_DEFAULT = re.compile(r"""\{\{['"]?\s*\$(\w+)\s*:\s*['"]?\}\}""")


class UnsetVariableError(ValueError):
    """A config names an environment variable that is not set, and no default."""


class ConfigSource(NamedTuple):
    """The text of one config file, and the paths of its bases.

    Args:
        file (str): Its absolute path.
        text (str): What it holds, with mmengine's ``{{ fileBasename }}`` and ``{{$VARIABLE:default}}`` put in.
        bases (list[tuple[str, str | None]]): Path and scope of each file that ``_base_`` names.
        placeholders (dict[str, str]): The string that stands in ``text`` for each ``{{_base_.x.y}}``, to ``'x.y'``.
        env_variables (dict[str, str]): Environment variables that were put in.
    """

    file: str
    text: str
    bases: list[tuple[str, Optional[str]]]
    placeholders: dict[str, str]
    env_variables: dict[str, str]


def read_source(file: str) -> ConfigSource:
    """Read a config file of the text style without executing it.

    Raises:
        UnsetVariableError: If it needs an environment variable that is not set.
    """
    file = os.path.abspath(os.path.expanduser(file))
    with TemporaryDirectory() as folder:
        copy = str(Path(folder, f'config{Path(file).suffix}'))
        Config._substitute_predefined_vars(file, copy)
        for name in _WITHOUT_DEFAULT.findall(Path(copy).read_text(encoding='utf8')):
            if not os.environ.get(name):
                raise UnsetVariableError(
                    f'expected the environment variable {name} to be set, got nothing. Type {name}=VALUE before the '
                    f'command, or write a default into the config: {{{{${name}:default}}}}'
                )
        env_variables = Config._substitute_env_variables(copy, copy)
        placeholders = Config._pre_substitute_base_vars(copy, copy)
        text = Path(copy).read_text(encoding='utf8')
        if not copy.endswith('.py') and not isinstance(load(copy), dict):
            raise TypeError('expected keys with values at its top level')
        bases = [_base_path(base, file) for base in Config._get_base_files(copy)]
    return ConfigSource(file, text, bases, placeholders, env_variables or {})


def register_package(name: str) -> None:
    """Make the configs of an importable package available as ``_base_ = 'name::path'``.

    mmengine knows OpenMMLab's packages only. The entry stays for the life of the process.
    """
    MODULE2PACKAGE[name] = name


def shipped_config(name: str) -> str:
    """Return the path of a package's config, ``package::path``; for hybridcls also in a clone without ``.mim``.

    Raises:
        FileNotFoundError: If there is no such package, or hybridcls has no such config.
    """
    package, _, inside = name.partition('::')
    if package == 'hybridcls':
        from hybridcls import config_path

        return config_path(inside)
    try:
        return str(Path(get_installed_path(package), '.mim', 'configs', inside))
    except Exception as error:
        raise FileNotFoundError(
            f'{name!r} asks for a config of the package {package!r}, which is not installed.'
        ) from error


def _base_path(base: str, file: str) -> tuple[str, Optional[str]]:
    if base.startswith('hybridcls::'):
        return shipped_config(base), 'hybridcls'
    return Config._get_cfg_path(base, file)


def run_source(source: ConfigSource, bases: dict) -> dict:
    """Execute a config file, and return its own top-level names; ``{{_base_.name}}`` refers to ``bases``."""
    if source.file.endswith('.py'):
        tree = ast.parse(source.text)
        tree.body = [node for node in tree.body if not _assigns(node, '_base_')]
        names: dict[str, Any] = {'_base_': ConfigDict(bases)}
        exec(compile(tree, source.file, 'exec'), names)
    else:
        with TemporaryDirectory() as folder:
            copy = Path(folder, f'config{Path(source.file).suffix}')
            copy.write_text(source.text, encoding='utf8')
            names = load(copy)
    own = {
        name: value
        for name, value in names.items()
        if name not in ('_base_', '_deprecation_')
        and not name.startswith('__')
        and not isinstance(value, (types.FunctionType, types.ModuleType))
    }
    Config._parse_scope(own)
    return Config._substitute_base_vars(own, source.placeholders, deepcopy(bases))


def _assigns(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name


def is_lazy_config(file: str) -> bool:
    """Return whether a file uses mmengine's lazy style: ``with read_base(): ...``, or imported classes."""
    return Config._is_lazy_import(file)


def lazy_bases(file: str) -> list[str]:
    """Return the paths of the files that ``with read_base():`` imports."""
    tree = ast.parse(Path(file).read_text(encoding='utf8'))
    paths = []
    for name in Config._get_base_modules(tree.body):
        inside = name.lstrip('.')
        level = len(name) - len(inside)
        if level:
            folder = Path(file).parent.joinpath(*['..'] * (level - 1))
        else:
            package, _, inside = inside.partition('.')
            folder = Path(get_installed_path(package))
        paths.append(os.path.normpath(folder / f'{inside.replace(".", "/")}.py'))
    return paths


def read_lazy_config(file: str) -> dict:
    """Read a file of the lazy style with its bases: plain dicts, with dotted names for imported objects."""
    return Config.fromfile(file, lazy_import=True, import_custom_modules=False).to_dict()


def merge(own: dict, base: dict, allow_list_keys: bool = False) -> dict:
    """Return ``base`` with ``own`` merged into it by mmengine's rules, without any ``_delete_`` key.

    mmengine leaves it in where there is nothing to delete, and the class that is built then gets it.
    """
    merged = Config._merge_a_into_b(own, base, allow_list_keys=allow_list_keys)
    merged.pop('_delete_', None)
    for key, value in merged.items():
        if key not in _OPTIONS:
            _drop_delete(value)
    return merged


def _drop_delete(node: Any) -> None:
    if isinstance(node, dict):
        node.pop('_delete_', None)
    if isinstance(node, (dict, list, tuple)):
        for value in node.values() if isinstance(node, dict) else node:
            _drop_delete(value)


def with_scope(values: dict, scope: Optional[str]) -> dict:
    """Return the values of a base as mmengine's dicts, which remember the package that they come from."""
    return Config._dict_to_config_dict(values, scope) if values else ConfigDict()
