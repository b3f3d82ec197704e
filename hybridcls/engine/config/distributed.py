"""Complete a config for several processes, with or without GPUs."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from hybridcls.signatures import takes_argument

from .change import Change
from .layers import ConfigError
from .tree import ABSENT, is_a

__all__ = ['distributed']


def distributed(cfg: Config, launcher: str) -> Iterator[Change]:
    """Adapt a config to a launcher: without GPUs a model wrapper without devices, and our synchronized BatchNorm.

    Args:
        cfg (Config): Read.
        launcher (str): ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Raises:
        ConfigError: If ``sync_bn`` is asked for and there is no GPU.
    """
    import torch

    given = cfg.get('launcher', ABSENT)
    if given != launcher:
        yield Change(('launcher',), given, launcher, 'who started this process', '--launcher', told=False)
    if launcher == 'none':
        return
    has_gpus = torch.cuda.is_available()
    if cfg.get('sync_bn') is not None:
        if not has_gpus:
            raise ConfigError(
                f'sync_bn={cfg.sync_bn!r}: torch synchronises BatchNorm only on GPUs, and there is none. Leave it out: '
                '--cfg-options sync_bn=None.'
            )
        from hybridcls.models.classifiers import HybridClassifier

        if cfg.sync_bn == 'torch' and is_a('MODELS', cfg.get('model'), HybridClassifier):
            why = "mmengine's way drops activations of timm's BatchNorm; HybridClassifier does it"
            yield Change(('model', 'sync_bn'), cfg.model.get('sync_bn', ABSENT), True, why, ('sync_bn',))
            yield Change(('sync_bn',), cfg.sync_bn, None, why, 'sync_bn')
    if not has_gpus:
        yield from _without_device(cfg)


def _without_device(cfg: Config) -> Iterator[Change]:
    """Set a DDP wrapper that needs no device, as mmengine's default requires CUDA with any backend."""
    import torch

    given: dict[str, Any] = dict(cfg.get('model_wrapper_cfg') or {})
    filled = dict(type='MMDistributedDataParallel', find_unused_parameters=cfg.get('find_unused_parameters', False))
    if not {'broadcast_buffers', 'forward_sync_buffers'} & set(given):
        # As mmengine does it: each process has its own running statistics. The key has a new name in newer torch.
        is_new = takes_argument(torch.nn.parallel.DistributedDataParallel, 'forward_sync_buffers')
        filled['forward_sync_buffers' if is_new else 'broadcast_buffers'] = False
    why = 'several processes without a GPU: gloo'
    for key, value in filled.items():
        if given.get(key) is None:
            yield Change(('model_wrapper_cfg', key), given.get(key, ABSENT), value, why, told=key == 'type')
    if given.get('device_ids', ABSENT) is not None:
        yield Change(('model_wrapper_cfg', 'device_ids'), given.get('device_ids', ABSENT), None, why, 'device', False)
