"""Make nested scopes known to mmengine, which searches a scope among the root registry's children alone."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmengine.registry import Registry

__all__ = ['add_to_root']


def add_to_root(registry: 'Registry') -> None:
    """Register a grandchild's scope with the root of mmengine's registry, for the configs of every package.

    Without this ``hybridcls.X`` would be known only to configs of the package whose registry is the parent.
    """
    if registry.parent is not None and registry.parent.parent is not None:
        registry.parent.parent._add_child(registry)
