"""mmengine's registries form trees in which a scope is looked for among the children of the root alone."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmengine.registry import Registry

__all__ = ['add_to_root']


def add_to_root(registry: 'Registry') -> None:
    """Let a grandchild of mmengine's registry be found by its scope from the configs of every package.

    Without this ``hybridcls.X`` would be known only to configs of the package whose registry is the parent.
    """
    if registry.parent is not None and registry.parent.parent is not None:
        registry.parent.parent._add_child(registry)
