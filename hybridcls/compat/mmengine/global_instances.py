"""mmengine keeps loggers, message hubs, visualizers and scopes by name for the life of the process."""

from typing import Any

from mmengine.utils import ManagerMixin

__all__ = ['instances_of']


def instances_of(kind: type[ManagerMixin]) -> dict[str, Any]:
    """Return the instances of a class by name: the dict in which mmengine looks, which a caller may change."""
    return kind._instance_dict
