"""What a dataloader is given when its config does not say: depends on the machine, so it is no config's business."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

__all__ = ['check_functions', 'dataloaders_of', 'end_workers', 'end_workers_of', 'fill_dataloader_defaults']


def dataloaders_of(node: Any, path: str = '') -> Iterator[tuple[str, dict]]:
    """Yield the dotted key and the dict of each dataloader: ``train_dataloader`` and, say, a metric's own one."""
    if isinstance(node, (Config, dict)):
        for key, value in node.items():
            here = f'{path}.{key}' if path else str(key)
            if isinstance(value, dict) and (key == 'dataloader' or str(key).endswith('_dataloader')):
                yield here, value
            yield from dataloaders_of(value, here)
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from dataloaders_of(value, f'{path}.{index}')


def fill_dataloader_defaults(cfg: Config) -> None:
    """Complete every dataloader of ``cfg`` in place.

    ``pin_memory`` is on only with CUDA (elsewhere torch warns and does nothing), ``persistent_workers`` only with
    workers (with none torch refuses), batches are stacked by ``default_collate``. Training workers are seeded by
    :func:`~hybridcls.engine.hooks.random_state_hook.seed_worker`.
    """
    import torch

    for name, dataloader in dataloaders_of(cfg):
        has_workers = (dataloader.get('num_workers') or 0) > 0
        dataloader.setdefault('pin_memory', torch.cuda.is_available())
        dataloader.setdefault('persistent_workers', has_workers)
        dataloader.setdefault('collate_fn', dict(type='default_collate'))
        if not has_workers:
            # A base config may say True; `num_workers=0` on the command line then means "no workers", not "an error".
            dataloader['persistent_workers'] = False
            dataloader.pop('prefetch_factor', None)
        if dataloader.get('batch_sampler') is not None:
            # It decides about incomplete batches itself, and torch refuses both keys; a base config may say drop_last.
            dataloader.pop('drop_last', None)
        if name == 'train_dataloader':
            # mmengine's own function gives each worker the same seed in each epoch, so that with workers that are
            # started anew every epoch sees the same random crops.
            dataloader.setdefault('worker_init_fn', dict(type='hybridcls.seed_worker'))


def check_functions(name: str, dataloader: dict) -> None:
    """Raise unless mmengine will find the functions that a dataloader names.

    Args:
        name (str): Its dotted key.
        dataloader (dict): Its config. ``collate_fn`` and ``worker_init_fn`` may each be a dict with a ``type``.

    Raises:
        ValueError: If there is no ``type``, or only a scope in front of it would find the function.
        UnknownNameError: If nobody knows it.
    """
    from mmengine.registry import FUNCTIONS as MMENGINES

    from hybridcls.registry import FUNCTIONS

    for key in ('collate_fn', 'worker_init_fn'):
        function = dataloader.get(key)
        if not isinstance(function, dict):
            continue
        if 'type' not in function:
            raise ValueError(f"{name}.{key} = {dict(function)} has no 'type', so there is no function to call.")
        kind = function['type']
        if isinstance(kind, str) and MMENGINES.get(kind) is None:
            FUNCTIONS.get(kind)  # says what is near, if there is none
            raise ValueError(
                f'{name}.{key}.type={kind!r} is a function of hybridcls, and mmengine looks for functions '
                f"of other packages under their scope only. Write 'hybridcls.{kind}'."
            )


def end_workers(runner: Any) -> None:
    """End the long-lived workers of a Runner's dataloaders.

    Left to the garbage collector, which may take the queues first, each of them is waited for five seconds.
    """
    from mmengine.runner.base_loop import BaseLoop

    for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
        if isinstance(loop, BaseLoop):
            end_workers_of(loop.dataloader)
            if hasattr(loop, 'dataloader_iterator'):  # by iterations
                loop.dataloader_iterator = None


def end_workers_of(dataloader: Any) -> None:
    """The same for one dataloader; anything else, such as the config of one that was never built, is left alone."""
    if hasattr(dataloader, '_iterator'):
        dataloader._iterator = None
