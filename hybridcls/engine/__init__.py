"""Training: hooks, the update, and the way from a config file to a run of one or several phases.

The rooms are imported when they are asked for: ``hybridcls.engine.optim`` serves any training of mmengine's Runner, and
needs neither our models nor what they need.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hybridcls import checkpoint_reading, registry  # noqa: F401 (checkpoints are read safely, names are known)

if TYPE_CHECKING:
    from . import distillation, hooks, optim
    from .checkpoints.weight_transfer import TransferReport, WeightMismatchError, transfer_weights
    from .config import ConfigError, is_chain, load_config
    from .phases import in_folds, run_chain
    from .runner.fsdp_strategy import FSDPStrategy
    from .training import TrainOptions, build_runner, prepare_testing, prepare_training, run_training

__all__ = [
    'ConfigError', 'FSDPStrategy', 'TrainOptions', 'TransferReport', 'WeightMismatchError', 'build_runner',
    'distillation', 'hooks', 'in_folds', 'is_chain', 'load_config', 'optim', 'prepare_testing', 'prepare_training',
    'run_chain', 'run_training', 'transfer_weights',
]  # fmt: skip

_ROOMS = {
    'checkpoints.weight_transfer': ('TransferReport', 'WeightMismatchError', 'transfer_weights'),
    'config': ('ConfigError', 'is_chain', 'load_config'),
    'phases': ('in_folds', 'run_chain'),
    'runner.fsdp_strategy': ('FSDPStrategy',),
    'training': ('TrainOptions', 'build_runner', 'prepare_testing', 'prepare_training', 'run_training'),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _ROOM_OF:
        return getattr(import_module(f'{__name__}.{_ROOM_OF[name]}'), name)
    if name in __all__:
        return import_module(f'{__name__}.{name}')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
