"""Start several processes where mmengine alone cannot: on machines without a GPU."""

import os
from collections.abc import Callable
from typing import Any, Optional

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, init_dist, is_distributed, is_main_process

from hybridcls.checks import check_choice

__all__ = ['decided_by_first', 'local_process_count', 'process_count', 'start_group', 'start_processes']

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


def process_count(launcher: str) -> int:
    """Return how many processes train together.

    Raises:
        ValueError: If there is no such launcher.
    """
    check_choice('process_count', 'launcher', launcher, [*_VARIABLES, 'none'])
    return 1 if launcher == 'none' else int(os.environ.get(_VARIABLES[launcher][0], '1'))


def local_process_count(launcher: str) -> Optional[int]:
    """Return how many processes the launcher started on this machine, or None if it does not tell."""
    value = os.environ.get(_VARIABLES[launcher][3], '')
    return int(value) if value.isdigit() else None


def start_processes(launcher: str) -> None:
    """Check that a launcher started this process, and without a GPU start the process group over gloo.

    It comes before a Runner is built. With GPUs mmengine's Runner starts NCCL itself. Calling it again in
    the same process changes nothing more, so several runs can follow each other.

    Args:
        launcher (str): ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Raises:
        RuntimeError: If the processes were not started by that launcher, or are more than there are GPUs.
    """
    check_choice('start_processes', 'launcher', launcher, [*_VARIABLES, 'none'])
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

    if torch.cuda.is_available():
        count, gpus = local_process_count(launcher), torch.cuda.device_count()
        if count is not None and count > gpus:
            raise RuntimeError(
                f'{count} processes were requested, but this machine shows {gpus} GPU{"s" if gpus != 1 else ""} '
                f'(CUDA_VISIBLE_DEVICES={os.environ.get("CUDA_VISIBLE_DEVICES", "not set")}): ask for at most {gpus}.'
            )
        return
    if not dist.is_initialized():
        os.environ.setdefault('WORLD_SIZE', os.environ[world])
        os.environ.setdefault('RANK', os.environ[rank])
        os.environ.setdefault('LOCAL_RANK', os.environ.get(local_rank, '0'))
        os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
        os.environ.setdefault('MASTER_PORT', '29500')
        dist.init_process_group('gloo')


def start_group(cfg: Config, launcher: str) -> None:
    """Start the process group now, not in mmengine's first Runner, to share decisions before that."""
    from mmengine.utils.dl_utils import set_multi_processing

    if launcher == 'none' or is_distributed():
        return
    env = cfg.get('env_cfg') or {}
    set_multi_processing(**(env.get('mp_cfg') or {}), distributed=True)
    init_dist(launcher, **(env.get('dist_cfg') or {}))


def decided_by_first(decide: Callable[[], Any]) -> Any:
    """Run a decision in the first process, and return its result in all processes.

    Args:
        decide (Callable): Called in the first process; what it returns can be pickled.

    Returns:
        Its answer, in every process. A mistake that it finds (OSError, TypeError, ValueError) is raised in all of them.
    """
    answer: list[Any] = [None, None]
    if is_main_process():
        try:
            answer = [decide(), None]
        except (OSError, TypeError, ValueError) as error:
            answer = [None, error]
    broadcast_object_list(answer)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]
