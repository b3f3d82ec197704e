"""Determine how deep a parameter lies in any model, for layer-wise learning rates."""

from collections.abc import Callable
from typing import Any

from torch import nn

__all__ = ['DepthReader']


class DepthReader:
    """Read depths from the model or a submodule: its ``get_layer_depth``, or timm's group matcher.

    Args:
        caller (str): Name that errors start with.
        model (nn.Module): Any model.

    Example:
        >>> import timm
        >>> model = nn.ModuleDict(dict(backbone=timm.create_model('test_vit', num_classes=0), head=nn.Linear(64, 3)))
        >>> reader = DepthReader('me', model)
        >>> reader.scale('backbone.pos_embed', 0.5), reader.scale('head.weight', 0.5)
        (0.0078125, 1.0)
    """

    def __init__(self, caller: str, model: nn.Module) -> None:
        self._caller = caller
        self._model: Any = model
        self._inner: list[tuple[str, Callable[[str], tuple[int, int]]]] = []

    def scale(self, param_name: str, rate: float) -> float:
        """Return the learning rate factor: ``rate`` to the power of the number of deeper depths.

        Raises:
            ValueError: If neither the model nor a part of it tells the depth.
        """
        if rate == 1:
            return 1.0
        depth, count = self._depth_of(param_name)
        return rate ** (count - depth - 1)

    def _depth_of(self, param_name: str) -> tuple[int, int]:
        refused = ''
        if hasattr(self._model, 'get_layer_depth'):
            try:
                return self._model.get_layer_depth(param_name)
            except NotImplementedError as error:  # mmpretrain's classifiers, of a backbone that does not know
                refused = f' ({error})' if str(error) else ''
        for path, depth_of in self._readers():
            if param_name.startswith(path):
                try:
                    return depth_of(param_name)
                except NotImplementedError as error:
                    raise ValueError(self._complaint(f' (in {path.rstrip(".")}: {type(error).__name__})')) from error
        if not self._readers():
            raise ValueError(self._complaint(refused))
        return 0, 1  # beside what has an order: a neck, a head

    def _readers(self) -> list[tuple[str, Callable[[str], tuple[int, int]]]]:
        """Return the outermost modules that define an order, by the prefix of their parameters' names."""
        if not self._inner:
            for path, module in self._model.named_modules():
                prefix = f'{path}.' if path else ''
                if any(prefix.startswith(outer) for outer, _ in self._inner):
                    continue
                if path and hasattr(module, 'get_layer_depth'):
                    self._inner.append((prefix, _asking(module, prefix)))
                elif hasattr(module, 'group_matcher'):
                    self._inner.append((prefix, _looking_up(module, prefix)))
        return self._inner

    def _complaint(self, detail: str) -> str:
        return (
            f'{self._caller}: expected a model that knows the order of its layers, for layer_decay_rate, got '
            f'{type(self._model).__name__}{detail}. Give the model or its backbone get_layer_depth(param_name, '
            'prefix) -> (depth, number of depths), or set paramwise_cfg=dict(layer_decay_rate=1.0); lr_mult gives '
            'factors to whole parts.'
        )


def _asking(module: Any, prefix: str) -> Callable[[str], tuple[int, int]]:
    return lambda param_name: module.get_layer_depth(param_name, prefix)


def _looking_up(module: nn.Module, prefix: str) -> Callable[[str], tuple[int, int]]:
    from hybridcls.compat.timm import layer_depths  # here, since only a timm model needs timm

    depths, count = layer_depths(module)
    return lambda param_name: (depths[param_name.removeprefix(prefix)], count)
