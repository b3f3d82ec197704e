"""Isolate mmengine's global instances, so that consecutive Runners do not share loggers or message hubs."""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.utils import ManagerMixin
from mmengine.visualization import Visualizer

from hybridcls.compat.mmengine import instances_of

__all__ = ['isolated_globals']


@contextmanager
def isolated_globals() -> Iterator[None]:
    """Remove, at the end of the block, the global instances that mmengine created in it.

    mmengine keeps loggers, message hubs, visualizers and scopes by name for the life of the process. A second Runner
    whose config names its visualizer (``name='visualizer'``, as configs do) would get the first one's, with the first
    one's folder; and a message hub of an earlier phase would give its best score to the next.
    """
    before = {kind: set(instances_of(kind)) for kind in _kinds()}
    hidden = {kind: dict(instances_of(kind)) for kind in _kinds() if issubclass(kind, Visualizer)}
    for kind in hidden:  # the same name shall mean a new one here
        instances_of(kind).clear()
    try:
        yield
    finally:
        for kind in _kinds():
            for name in [name for name in instances_of(kind) if name not in before.get(kind, ())]:
                _close(instances_of(kind).pop(name))
        for kind, instances in hidden.items():
            for visualizer in instances_of(kind).values():
                _close(visualizer)
            instances_of(kind).clear()
            instances_of(kind).update(instances)
        gc.collect()
        _free_device_memory()


def _kinds() -> list[type[ManagerMixin]]:
    """Return all classes with global instances, including subclasses, each with its own dict."""
    kinds: list[type[ManagerMixin]] = []
    todo: list[type[ManagerMixin]] = [MMLogger, MessageHub, DefaultScope, Visualizer]
    while todo:
        kind = todo.pop()
        kinds.append(kind)
        todo.extend(kind.__subclasses__())
    return kinds


def _close(instance: ManagerMixin) -> None:
    if isinstance(instance, logging.Logger):
        for handler in list(instance.handlers):
            if isinstance(handler, logging.FileHandler):
                handler.close()
                instance.removeHandler(handler)
    elif isinstance(instance, Visualizer):
        instance.close()


def _free_device_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
