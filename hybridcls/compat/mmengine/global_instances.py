"""Access mmengine's global instances: loggers, message hubs, visualizers and scopes, by name."""

from typing import Any

from mmengine.utils import ManagerMixin

__all__ = ['instances_of']


def instances_of(kind: type[ManagerMixin]) -> dict[str, Any]:
    """Return mmengine's own dict of the instances of a class by name, which a caller may change."""
    return kind._instance_dict
