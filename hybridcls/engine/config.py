"""Read a config file: clear answers to what is wrong with it, and what is said once carried to every place."""

from copy import deepcopy
from pathlib import Path
from typing import Any, Optional, Union

from mmengine.config import Config
from mmengine.utils import get_installed_path, import_modules_from_strings

from hybridcls.checks import check_known_keys, near_files

from .dataloader_defaults import fill_dataloader_defaults
from .said_once import SAID_ONCE, carry_said_once
from .top_level_keys import unread_key, unread_option

__all__ = ['ConfigError', 'load_config', 'is_chain']

_SCOPE = 'hybridcls'
_SUFFIXES = {'.py', '.yml', '.yaml', '.json'}


class ConfigError(ValueError):
    """Something is wrong in a config file; the text says what, where, and what would work."""


def load_config(path: Union[str, Path], cfg_options: Optional[dict[str, Any]] = None) -> Config:
    """Read a config, apply options, and complete it.

    The top-level keys ``img_size``, ``num_classes`` and ``data_root`` are said once and carried to every place that
    needs them (see :func:`~hybridcls.engine.said_once.carry_said_once`); dataloaders get the defaults that fit the
    machine; ``default_scope`` is ``'hybridcls'`` where the config names none.

    Args:
        path (str | Path): A ``.py``, ``.yml`` or ``.json`` config, or one of an installed package, as in
            ``'hybridcls::digits/adaface_hybrid.py'``.
        cfg_options (dict, optional): Dotted keys to values, as ``--cfg-options`` gives them. They win over
            everything, also over what is said once. Defaults to None.

    Returns:
        Config: The completed config. One that names ``phases`` (see :func:`is_chain`) is only read, since each of its
        phases is completed when its turn comes.

    Raises:
        FileNotFoundError: If there is no such file; the sentence names files with a similar name.
        ConfigError: If the file or one of its bases cannot be read, an option does not fit the config, a key of the
            top level is mistyped, or ``custom_imports`` that an option names cannot be imported.
    """
    file = _find(str(path))
    cfg = _read(file)
    options = dict(cfg_options or {})
    wrong = '' if is_chain(cfg) else unread_option(cfg, options)
    if wrong:
        raise ConfigError(wrong)
    _merge(cfg, options, file)
    if any(key.split('.')[0] == 'custom_imports' for key in options):  # those of the file are imported
        _import_custom(cfg)
    if cfg.get('default_scope') is None:
        cfg.default_scope = _SCOPE
    if is_chain(cfg):
        return cfg
    wrong = unread_key(cfg)
    if wrong:
        raise ConfigError(f'{file}: {wrong}')
    carry_said_once(cfg)
    # What was asked for at one place is not undone by what is said once.
    _merge(cfg, {key: value for key, value in options.items() if '.' in key and key.split('.')[-1] in SAID_ONCE}, file)
    fill_dataloader_defaults(cfg)
    return cfg


def is_chain(cfg: Config) -> bool:
    """Whether a config names an ordered list of configs, ``phases``, to be run as one job."""
    return cfg.get('phases') is not None


def _find(path: str) -> str:
    """Return the path of an existing file, also for ``package::path``."""
    if '::' in path:
        package, _, inside = path.partition('::')
        try:
            path = str(Path(get_installed_path(package), '.mim', 'configs', inside))
        except Exception as error:
            raise FileNotFoundError(
                f'load_config: {path!r} asks for a config of the package {package!r}, which is not installed.'
            ) from error
    if Path(path).is_dir():
        raise FileNotFoundError(f'load_config: {path!r} is a folder; name one config file in it.{near_files(path)}')
    if not Path(path).is_file():
        raise FileNotFoundError(
            f'load_config: the config {path!r} does not exist (looked for {Path(path).resolve()}).{near_files(path)}'
        )
    if Path(path).suffix not in _SUFFIXES:
        raise ConfigError(f'load_config: {path!r} is no config: its name should end in .py, .yml, .yaml or .json.')
    return path


def _read(file: str) -> Config:
    try:
        return Config.fromfile(file)
    except SyntaxError as error:
        place = f' (line {error.lineno})' if error.lineno else ''
        raise ConfigError(f'load_config: {file} or one of its bases is not valid Python: {error}{place}') from error
    except FileNotFoundError as error:
        base = _missing_base(file)
        if base is None:
            raise ConfigError(f'load_config: {file} names a file that does not exist: {error}') from error
        names, missing = base
        raise ConfigError(
            f'load_config: {names} names the base {str(missing)!r}, which does not exist '
            f'(looked for {missing.resolve()}).{near_files(str(missing))}'
        ) from error
    except ImportError as error:
        raise ConfigError(f'load_config: {file} needs a module that cannot be imported: {error}') from error
    except Exception as error:  # a config is code: whatever its lines raise ends here, with the file's name
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        hint = ''
        if 'Duplicate key' in text:
            hint = ' Two of its bases set the same top-level key: keep it in one of them.'
        raise ConfigError(f'load_config: {file} cannot be read: {type(error).__name__}: {text}.{hint}') from error


def _missing_base(file: str, depth: int = 0) -> Optional[tuple[str, Path]]:
    """Find the first base that does not exist: the file that names it, and its path."""
    try:
        bases = Config._get_base_files(file)
    except Exception:
        return None
    for base in bases:
        if '::' in base:
            continue
        path = Path(file).parent / base
        if not path.is_file():
            return file, path
        found = _missing_base(str(path), depth + 1) if depth < 20 else None
        if found:
            return found
    return None


def _merge(cfg: Config, options: dict[str, Any], file: str) -> None:
    try:
        cfg.merge_from_dict(deepcopy(options))  # mmengine takes `_delete_` out of what it merges
    except (KeyError, TypeError, IndexError, ValueError) as error:
        text = str(error.args[0]) if error.args else str(error)
        raise ConfigError(
            f'--cfg-options {_misfit(cfg, options)}: does not fit {file}: {text}. A dotted key goes down '
            'one dict or list (by number) a dot, and a dict is replaced by a dict.'
        ) from error


def _import_custom(cfg: Config) -> None:
    wanted = cfg.get('custom_imports')
    if not wanted:
        return
    if not isinstance(wanted, dict) or 'imports' not in wanted:
        raise ConfigError(
            f'--cfg-options custom_imports={wanted!r} should be a dict of imports: '
            'custom_imports.imports=my_package.my_file'
        )
    check_known_keys('custom_imports', wanted, ('imports', 'allow_failed_imports'))
    try:
        import_modules_from_strings(**wanted)
    except (ImportError, TypeError) as error:
        raise ConfigError(
            f'--cfg-options custom_imports.imports={wanted["imports"]!r} cannot be imported: {error}. '
            'Modules are looked for in the folder that the tool is started in, and in those of '
            'PYTHONPATH.'
        ) from error


def _misfit(cfg: Config, options: dict[str, Any]) -> str:
    """Name the options that do not fit, each on its own; all of them if it is only together that they do not."""
    misfits = []
    for key, value in options.items():
        try:
            deepcopy(cfg).merge_from_dict({key: deepcopy(value)})
        except (KeyError, TypeError, IndexError, ValueError):
            misfits.append(key)
    return ', '.join(misfits or options)
