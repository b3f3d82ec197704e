"""Read and check the phases of a chain, with the options that apply to each of them."""

import os
import re
from typing import Any, Optional

from mmengine.config import Config

from hybridcls.checks import check_choice, check_known_keys, did_you_mean

from ..checkpoints.weight_transfer import PARTS
from ..config import SHARED_KEYS, ConfigError
from ..config.change import layer_of
from ..config.origins import CODE, OPTION, RUNNER_KEYS

__all__ = ['Phase', 'read_phases']

_PHASE_KEYS = ('name', 'config', 'cfg_options', 'load', 'transfer', 'test')
# At the top level of a chain these are its own; everything else that a config reads there is said for all phases.
_CHAIN_KEYS = ('phases', 'cfg_options', 'work_dir', 'default_scope', 'launcher', 'custom_imports')
_FOR_ALL = tuple(key for key in (*SHARED_KEYS, *RUNNER_KEYS) if key not in _CHAIN_KEYS)


class Phase:
    """One entry of ``phases``, checked.

    Args:
        name (str): Names its folder, ``<work_dir>/<number>_<name>``.
        config (str): Its config, relative to the file that names it.
        cfg_options (dict): What differs in it here: dotted keys, or nested dicts. Defaults to nothing.
        load (str, optional): What it starts from: the ``'last'`` or the ``'best'`` checkpoint of the phase before, or
            the path of a checkpoint from elsewhere. Defaults to ``'last'`` (the first phase: to nothing).
        transfer (list[str], optional): The parts of the model that are taken from there; None takes all that fits.
            Defaults to backbone and neck.
        test (bool, optional): Test it when it is trained, if its config says how. Defaults to True for the last phase.
    """

    def __init__(self, number: int, entry: dict, chain: Config, is_last: bool) -> None:
        caller = f'phases.{number - 1}'
        if not isinstance(entry, dict):
            raise ConfigError(f'{caller} is {entry!r}; an entry of phases is a dict with name and config.')
        check_known_keys(caller, entry, _PHASE_KEYS)
        for key in ('name', 'config'):
            if not isinstance(entry.get(key), str) or not entry[key]:
                raise ConfigError(f'{caller}: the key {key!r} is missing; write dict(name=..., config=...).')
        self.number, self.name = number, entry['name']
        if not re.fullmatch(r'[\w.-]+', self.name):
            raise ConfigError(f'{caller}: name={self.name!r} names a folder; use letters, digits, "_", "-" and ".".')
        config = entry['config']
        if '::' not in config and not os.path.isabs(config):
            writer = layer_of(chain, ('phases', number - 1, 'config'))
            file = chain.filename if writer in (OPTION, CODE) else writer.name
            config = os.path.join(os.path.dirname(file or ''), config)
        self.config = config
        self.load = entry.get('load', 'last' if number > 1 else None)
        if self.load is not None and not self.load.endswith('.pth') and '://' not in self.load:
            check_choice(caller, 'load', self.load, ['best', 'last'])
            if number == 1:
                raise ConfigError(
                    f'{caller}: load={self.load!r} asks for a checkpoint of the previous phase, but this is the first '
                    'phase. Name the path of a checkpoint, or leave load out.'
                )
        self.transfer = entry.get('transfer', list(PARTS))
        self.test = entry.get('test', is_last)
        of_all = {key: chain[key] for key in _FOR_ALL if key in chain}
        self.options: dict[str, Any] = {}
        for options in (of_all, chain.get('cfg_options'), entry.get('cfg_options')):  # the nearer, the later
            own = _dotted(options)
            deleted = [key.removesuffix('._delete_') for key, value in own.items() if _deletes(key, value)]
            kept = {key: value for key, value in self.options.items() if key not in own}
            self.options = {key: value for key, value in kept.items() if not _is_below(key, deleted)} | own

    @property
    def folder_name(self) -> str:
        """The name of the phase's folder, such as ``1_supcon``, which sorts in the order of the phases."""
        return f'{self.number}_{self.name}'


def read_phases(chain: Config) -> list[Phase]:
    """Check the key ``phases`` of a chain and return its phases.

    Raises:
        ConfigError, TypeError: If a key is unknown or missing, a name occurs twice, or there is no phase at all.
    """
    for key in chain:
        if key not in (*_CHAIN_KEYS, *_FOR_ALL):
            raise ConfigError(
                f'{chain.filename}: nothing reads the key {key!r} of a chain of phases.'
                f'{did_you_mean(key, (*_CHAIN_KEYS, *_FOR_ALL))} For one phase write '
                f'phases.0.cfg_options.{key}=..., for all of them cfg_options.{key}=....'
            )
    if not isinstance(chain.phases, (list, tuple)) or not chain.phases:
        raise ConfigError(f'{chain.filename}: phases is {chain.phases!r}; it should list dicts with name and config.')
    number = len(chain.phases)
    phases = [Phase(index, entry, chain, index == number) for index, entry in enumerate(chain.phases, 1)]
    names = [phase.name for phase in phases]
    if len(set(names)) < len(names):
        raise ConfigError(f'{chain.filename}: two phases have the same name ({", ".join(names)}).')
    return phases


def _deletes(key: str, value: Any) -> bool:
    return bool(value.get('_delete_') if isinstance(value, dict) else key.endswith('._delete_') and value)


def _is_below(key: str, places: list[str]) -> bool:
    return any(f'{key}.'.startswith(f'{place}.') for place in places)


def _dotted(options: Optional[dict]) -> dict[str, Any]:
    """Flatten nested dicts to dotted keys, so that later values override earlier ones key by key."""
    flat: dict[str, Any] = {}
    for key, value in (options or {}).items():
        if isinstance(value, dict) and value and '_delete_' not in value and 'type' not in value:
            flat.update({f'{key}.{inner}': entry for inner, entry in _dotted(value).items()})
        else:
            flat[key] = value
    return flat
