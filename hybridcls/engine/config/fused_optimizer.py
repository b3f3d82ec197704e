"""Use the fused form of torch's optimizers, unless the config or a resumed run says otherwise."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from .change import RECORD, Change
from .tree import ABSENT, Path, class_of, is_a, key_of, value_at

__all__ = ['fused_by_default', 'fused_optimizer']

# Each of them refuses fused=True beside it.
_OTHER_FORMS = ('foreach', 'differentiable')


def fused_optimizer(cfg: Config) -> Iterator[Change]:
    """Fill ``fused=True`` for torch's Adam, AdamW and SGD on a CPU or a CUDA device, where it is not set.

    One kernel updates all parameters of a group, in a fifth to a half of the time; its results differ from the other
    forms by rounding. With a strategy (FSDP) nothing is filled in: not all of its tensors have the kernels. Nor for SGD
    with momentum without ComposedOptimWrapper, or with dampening, where it would fail at a parameter that gets its
    first gradient after others (:func:`~hybridcls.compat.torch.late_momentum`).

    Args:
        cfg (Config): Read.
    """
    from mmengine.device import get_device

    if cfg.get('strategy') or get_device() not in ('cpu', 'cuda'):
        return
    for path in _optimizers(cfg):
        optimizer = value_at(cfg, path)
        is_open = optimizer.get('fused') is None and not any(optimizer.get(key) for key in _OTHER_FORMS)
        if is_open and _has(optimizer, value_at(cfg, path[:-1])):
            why = 'one kernel an update (torch)'
            yield Change((*path, 'fused'), optimizer.get('fused', ABSENT), True, why)


def fused_by_default(cfg: Any) -> list[str]:
    """Return the dotted keys that :func:`fused_optimizer` filled in a completed config or its dump."""
    filled = {str(row['path']) for row in cfg.get(RECORD) or [] if 'path' in row and row.get('new') is True}
    return [key for path in _optimizers(cfg) if (key := str(key_of((*path, 'fused')))) in filled]


def _optimizers(cfg: Any) -> Iterator[Path]:
    """Yield the paths of optimizers: of one wrapper, or of each of several."""
    wrapper = cfg.get('optim_wrapper') or {}
    for path in [(), *((key,) for key in wrapper)]:
        node = value_at(wrapper, path)
        if isinstance(node, dict) and isinstance(node.get('optimizer'), dict):
            yield ('optim_wrapper', *path, 'optimizer')


def _has(optimizer: dict, wrapper: dict) -> bool:
    from torch import optim

    kind = class_of('OPTIMIZERS', optimizer)
    if kind is optim.SGD and optimizer.get('momentum'):
        return not optimizer.get('dampening') and is_a('OPTIM_WRAPPERS', wrapper, _composed())
    return kind in (optim.Adam, optim.AdamW, optim.SGD)


def _composed() -> type:
    from ..optim import ComposedOptimWrapper

    return ComposedOptimWrapper
