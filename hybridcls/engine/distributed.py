"""Start several processes where mmengine alone cannot: on machines without a GPU."""

import inspect
import os
from typing import Optional

from mmengine.config import Config

__all__ = ['local_process_count', 'prepare_distributed']

# Where each launcher says: number of processes, own rank, own rank on this machine, processes on this machine.
_VARIABLES = {
    'pytorch': ('WORLD_SIZE', 'RANK', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE'),
    'slurm': ('SLURM_NTASKS', 'SLURM_PROCID', 'SLURM_LOCALID', 'SLURM_NTASKS_PER_NODE'),
    'mpi': ('OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_LOCAL_SIZE'),
}
_HOW_TO_START = {
    'pytorch': 'bash tools/dist_train.sh CONFIG NUMBER_OF_PROCESSES (or torchrun)',
    'slurm': 'bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR (or srun)',
    'mpi': 'mpirun',
}


def local_process_count(launcher: str) -> Optional[int]:
    """Return how many processes the launcher started on this machine, or None if it does not say."""
    value = os.environ.get(_VARIABLES[launcher][3], '')
    return int(value) if value.isdigit() else None


def prepare_distributed(cfg: Config, launcher: str) -> None:
    """Set ``cfg.launcher``, and make it work without a GPU, before a Runner is built.

    With GPUs mmengine's Runner starts NCCL itself. Without, it would still ask for CUDA (whatever backend the config
    names), so here the group is started over gloo, and the wrapper of the model is told that it has no device.
    Calling it again in the same process changes nothing more, so several runs can follow each other.

    Args:
        cfg (Config): Changed in place: ``launcher``, and without GPU ``model_wrapper_cfg``.
        launcher (str): ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Raises:
        RuntimeError: If the processes were not started by that launcher, or are more than there are GPUs.
    """
    cfg.launcher = launcher
    if launcher == 'none':
        if os.environ.get('TORCHELASTIC_RUN_ID') and int(os.environ.get('WORLD_SIZE', '1')) > 1:
            raise RuntimeError(
                f'torchrun started {os.environ["WORLD_SIZE"]} processes, and each would train alone '
                'into the same folder: add --launcher pytorch.'
            )
        return
    world, rank, local_rank, _ = _VARIABLES[launcher]
    missing = [name for name in (world, rank) if name not in os.environ]
    if missing:
        raise RuntimeError(
            f'--launcher {launcher}: the environment variable {missing[0]} is not set, so this process '
            f'was not started by it. Start it with {_HOW_TO_START[launcher]}, or leave --launcher out.'
        )
    import torch
    import torch.distributed as dist

    _synchronise_batchnorm(cfg, torch.cuda.is_available())
    if torch.cuda.is_available():
        count, gpus = local_process_count(launcher), torch.cuda.device_count()
        if count is not None and count > gpus:
            raise RuntimeError(
                f'{count} processes were asked for, but this machine shows {gpus} '
                f'GPU{"s" if gpus != 1 else ""} (CUDA_VISIBLE_DEVICES='
                f'{os.environ.get("CUDA_VISIBLE_DEVICES", "not set")}): ask for at most {gpus}.'
            )
        return
    if not dist.is_initialized():
        os.environ.setdefault('WORLD_SIZE', os.environ[world])
        os.environ.setdefault('RANK', os.environ[rank])
        os.environ.setdefault('LOCAL_RANK', os.environ.get(local_rank, '0'))
        os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
        os.environ.setdefault('MASTER_PORT', '29500')
        dist.init_process_group('gloo')
    given = dict(cfg.get('model_wrapper_cfg') or {})
    wrapper = dict(type='MMDistributedDataParallel', find_unused_parameters=cfg.get('find_unused_parameters', False))
    if not {'broadcast_buffers', 'forward_sync_buffers'} & set(given):
        # As mmengine does it: each process has its own running statistics. The key has a new name in newer torch.
        known = inspect.signature(torch.nn.parallel.DistributedDataParallel).parameters
        wrapper['forward_sync_buffers' if 'forward_sync_buffers' in known else 'broadcast_buffers'] = False
    cfg.model_wrapper_cfg = dict(wrapper, **given)
    cfg.model_wrapper_cfg['device_ids'] = None


def _synchronise_batchnorm(cfg: Config, has_gpus: bool) -> None:
    """Let HybridClassifier do what ``sync_bn = 'torch'`` asks for: mmengine drops activations of timm's models."""
    if cfg.get('sync_bn') is None:
        return
    if not has_gpus:
        raise RuntimeError(
            f'sync_bn={cfg.sync_bn!r}: torch synchronises BatchNorm only on GPUs, and there is none. '
            'Leave it out: --cfg-options sync_bn=None.'
        )
    model = cfg.get('model') or {}
    if str(model.get('type')).rsplit('.', 1)[-1] == 'HybridClassifier' and cfg.sync_bn == 'torch':
        model['sync_bn'], cfg.sync_bn = True, None
