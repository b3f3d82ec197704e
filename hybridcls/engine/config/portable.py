"""Prefix the names of types with our scope, so that tools of other packages find them."""

from collections.abc import Iterator

from mmengine.config import Config

from .change import Change
from .layers import RUNNER_KEYS
from .tree import walk

__all__ = ['portable_types']


def portable_types(cfg: Config) -> Iterator[Change]:
    """Put ``hybridcls.`` in front of bare names of our classes, so that a dumped config works anywhere.

    mmpretrain's inferencers and its ``get_model`` build a config in their own scope, whatever it says; there
    ``ResizeToSize`` is unknown, and ``hybridcls.ResizeToSize`` is found.
    """
    if cfg.get('default_scope') != 'hybridcls':
        return
    from hybridcls import registry as registries

    kinds = [getattr(registries, name) for name in registries.__all__ if name != 'INFERENCERS']
    for kind in kinds:
        kind.import_from_location()
    read = {key: value for key, value in cfg.items() if key in RUNNER_KEYS}
    for path, node in walk(read):
        name = node.get('type') if isinstance(node, dict) else None
        if isinstance(name, str) and '.' not in name and any(name in kind.module_dict for kind in kinds):
            yield Change((*path, 'type'), name, f'hybridcls.{name}', 'found by other tools', 'scope', told=False)
