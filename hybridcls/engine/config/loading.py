"""Load a config file: track the file of each value, report mistakes, and fill open values."""

import re
from copy import deepcopy
from pathlib import Path as FilePath
from typing import Any, Optional, Union

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from hybridcls.checks import check_known_keys, near_files
from hybridcls.compat.mmengine import merge, shipped_config
from hybridcls.compat.mmengine.config_files import UnsetVariableError
from hybridcls.compat.mmengine.config_text import TextOnce

from .change import Change, Provenance, apply, note_layer, provenance_of
from .dataloaders import dataloaders
from .kinds import check_kinds
from .layers import OPTION, ConfigError, Layers, read_layers
from .pretrained_size import pretrained_size
from .renamed import rename
from .shared_keys import shared_keys
from .timm_streams import lone_stream
from .tree import ABSENT, Path, dotted, leaves_in, value_at, walk
from .unread_keys import unread_key, unread_option, unread_variables

__all__ = ['is_chain', 'load_config']

_SCOPE = 'hybridcls'
_VARIABLE = re.compile(r'\{\{\s*\$(\w+)[^}]*\}\}')
_SUFFIXES = {'.py', '.yml', '.yaml', '.json'}


def load_config(path: Union[str, FilePath], cfg_options: Optional[dict[str, Any]] = None) -> Config:
    """Load a config, apply options, and fill the values that it leaves open.

    Of two values of one key an option wins over the file, the file over its bases, a nearer base over a further one. A
    variable (``train_pipeline``) that is changed is followed by the places that repeat it. Shared keys of the top level
    fill open places alone (:func:`~hybridcls.engine.config.shared_keys.shared_keys`); dataloaders get the defaults that
    fit the machine; ``default_scope`` is ``'hybridcls'`` where the config names none. What was filled, and why, is in
    :func:`~hybridcls.engine.config.change.provenance_of`. A config that a run has dumped is read as it was before it
    was completed. Old spellings are read as those of today (:func:`~hybridcls.engine.config.renamed.rename`).

    Args:
        path (str | Path): A ``.py``, ``.yml`` or ``.json`` config, or one of an installed package, as in
            ``'hybridcls::digits/adaface_hybrid.py'``.
        cfg_options (dict, optional): Dotted keys to values, as ``--cfg-options`` gives them. Defaults to None.

    Returns:
        Config: The completed config. One that names ``phases`` (see :func:`is_chain`) is only read, since each of its
        phases is completed when its turn comes.

    Raises:
        FileNotFoundError: If there is no such file; the sentence names files with a similar name.
        ConfigError: If the file or one of its bases cannot be read, an option does not fit the config, a key of the
            top level is mistyped, one layer writes a key in an old and a new spelling, or ``custom_imports`` that an
            option names cannot be imported.
    """
    file = _find(str(path))
    layers = _read(file)
    _check_variables(layers, file)
    options = dict(cfg_options or {})
    is_one = layers.values.get('phases') is None and 'phases' not in options
    wrong = unread_option(layers.values, layers, options) if is_one else ''
    if wrong:
        raise ConfigError(wrong)
    _merge(layers, options, file)
    _drop_default_scope(layers.values)
    cfg = _LayeredConfig(
        layers.values,
        cfg_text='\n'.join(f'{name}\n{text}' for name, text in layers.texts.items()),
        filename=file,
        env_variables=layers.env_variables,
        format_python_code=False,
    )
    _note(cfg, layers)
    provenance_of(cfg).options = options
    if cfg.get('custom_imports'):
        _import_custom(cfg, any(key.split('.')[0] == 'custom_imports' for key in options))
    check_kinds(cfg)
    rename(cfg)
    if is_chain(cfg):
        return cfg
    wrong = unread_key(cfg, layers)
    if wrong:
        raise ConfigError(f'{file}: {wrong}')
    known = provenance_of(cfg)
    known.unread = unread_variables(cfg, layers)
    known.notes += [f'Nothing reads {key}: it has no effect.' for key in known.unread]
    for step in (_default_scope, lone_stream, pretrained_size, shared_keys, dataloaders):
        apply(cfg, step)
    return cfg


class _LayeredConfig(TextOnce):
    """A config that keeps its provenance when it is pickled for another process."""

    def __getstate__(self) -> Any:
        return super().__getstate__(), provenance_of(self)

    def __setstate__(self, state: Any) -> None:
        inner, known = state
        super().__setstate__(inner)
        self.__dict__['hybridcls_provenance'] = known


def is_chain(cfg: Config) -> bool:
    """Return whether a config is a chain: a list of configs, ``phases``, to be run as one job."""
    return cfg.get('phases') is not None


def _default_scope(cfg: Config) -> list[Change]:
    given = cfg.get('default_scope', ABSENT)
    return [Change(('default_scope',), given, _SCOPE, 'default', told=False)] if given in (ABSENT, None) else []


def _drop_default_scope(values: dict) -> None:
    """Remove mmengine's scope mark from bases behind ``::`` if it is the scope of all others.

    Whoever builds from a dump without a registry, as mmpretrain's ``browse_dataset.py`` does, takes it for an argument.
    """
    scope = values.get('default_scope') or _SCOPE
    for _, node in list(walk(values)):
        if isinstance(node, dict) and node.get('_scope_') == scope:
            del node['_scope_']


def _find(path: str) -> str:
    """Return the path of an existing config file, or of ``package::path``."""
    if '::' in path:
        path = shipped_config(path)
    if FilePath(path).is_dir():
        raise FileNotFoundError(f'load_config: {path!r} is a folder; name one config file in it.{near_files(path)}')
    if not FilePath(path).is_file():
        raise FileNotFoundError(
            f'load_config: the config {path!r} does not exist (looked for {FilePath(path).resolve()}).'
            f'{near_files(path)}'
        )
    if FilePath(path).suffix not in _SUFFIXES:
        raise ConfigError(f'load_config: expected a config (.py, .yml, .yaml or .json), got {path!r}.')
    return path


def _read(file: str) -> Layers:
    try:
        return read_layers(file)
    except ConfigError:
        raise
    except UnsetVariableError as error:
        raise ConfigError(f'load_config: {file} or one of its bases: {error}.') from error
    except SyntaxError as error:
        place = f' (line {error.lineno})' if error.lineno else ''
        advice = " A variable is written in quotes: {{'$NAME:default'}}." if '{{$' in (error.text or '') else ''
        raise ConfigError(
            f'load_config: {file} or one of its bases is not valid Python: {error.msg}{place}.{advice}'
        ) from error
    except FileNotFoundError as error:
        raise ConfigError(f'load_config: {file} names a file that does not exist: {error}') from error
    except ImportError as error:
        raise ConfigError(f'load_config: {file} needs a module that cannot be imported: {error}') from error
    except Exception as error:  # a config is code: whatever its lines raise ends here, with the file's name
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        raise ConfigError(f'load_config: {file} cannot be read: {type(error).__name__}: {text}.') from error


def _check_variables(layers: Layers, file: str) -> None:
    """Raise a ConfigError if a value has an environment variable in a spelling that nothing replaces."""
    for path, value in leaves_in(layers.values):
        found = _VARIABLE.search(value) if isinstance(value, str) else None
        if found is not None:
            layer = layers.origins.get(path)
            raise ConfigError(
                f'load_config: {file if layer is None else layer.name}: expected {{{{${found[1]}:default}}}}, with a '
                f'colon and a default without spaces, in {dotted(path)}, got {found[0]}, which would stay text. (With '
                'nothing behind the colon the variable has to be set.)'
            )


def _note(cfg: Config, layers: Layers) -> None:
    """Attach the provenance to a config."""
    known = Provenance(references=layers.references, used=set().union(*layers.used.values()))
    for path, layer in layers.origins.items():
        if value_at(cfg, path) is not ABSENT:
            note_layer(known, cfg, path, layer)
    for one in layers.followed:
        why = f'{".".join(map(str, one.variable))} ({FilePath(one.layer.name).name})'
        known.notes.append(f'{".".join(map(str, one.path))} follows {why}.')
    vars(cfg)['hybridcls_provenance'] = known


def _merge(layers: Layers, options: dict[str, Any], file: str) -> None:
    # As mmengine, which merges all options at once: a `_delete_` is for what the files wrote.
    for key, value in sorted(options.items(), key=lambda option: not option[0].endswith('._delete_')):
        try:
            layers.write(_nested(layers.values, key, deepcopy(value)), OPTION, options=True)
        except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
            text = str(error.args[0]) if error.args else str(error)
            raise ConfigError(
                f'--cfg-options {key}: does not fit {file}: {text}. Each dot of a key goes one dict, or one list (by '
                'number), deeper, and a dict is only replaced by a dict.'
            ) from error


def _nested(values: dict, key: str, value: Any) -> dict:
    """Convert a dotted key to nested dicts. Items of tuples, and items that are no dicts, go into a copied list."""
    parts = key.split('.')
    nested: Any = value
    for depth in range(len(parts) - 1, -1, -1):
        above: Path = tuple(int(part) if part.isdigit() else part for part in parts[:depth])
        there = value_at(values, above) if depth else values
        if isinstance(there, (list, tuple)):
            if not parts[depth].isdigit() or int(parts[depth]) >= len(there):
                raise KeyError(
                    f'{parts[depth]} is not a position in {dotted(above)}, a list of {len(there)}, counted from 0'
                )
            number = int(parts[depth])
            if isinstance(there, tuple) or not isinstance(nested, dict):
                both_dicts = isinstance(nested, dict) and isinstance(there[number], dict)
                item = merge(nested, there[number], allow_list_keys=True) if both_dicts else nested
                nested = type(there)([*there[:number], item, *there[number + 1 :]])
                continue
        nested = {parts[depth]: nested}
    return nested


def _import_custom(cfg: Config, by_option: bool) -> None:
    imports = cfg.custom_imports
    source = '--cfg-options' if by_option else f'{cfg.filename}:'
    if not isinstance(imports, dict) or 'imports' not in imports:
        advice = "custom_imports = dict(imports=['my_package.my_file'])"
        if by_option:
            advice = 'custom_imports.imports=my_package.my_file'
        raise ConfigError(f'{source} expected custom_imports to be a dict of imports, got {imports!r}. Write {advice}.')
    check_known_keys('custom_imports', imports, ('imports', 'allow_failed_imports'))
    try:
        import_modules_from_strings(**imports)
    except (ImportError, TypeError) as error:
        names = imports['imports'] if isinstance(imports['imports'], (list, tuple)) else [imports['imports']]
        paths = [name for name in names if isinstance(name, str) and (name.endswith('.py') or '/' in name)]
        advice = ''
        if paths:
            module = paths[0].removesuffix('.py').removeprefix('./').replace('/', '.')
            advice = f' A module is named with dots, not as a path: {module!r}.'
        raise ConfigError(
            f'{source} custom_imports.imports={imports["imports"]!r} cannot be imported: {error}.{advice} Modules are '
            'searched in the current folder and in those of PYTHONPATH.'
        ) from error
