"""How it is trained: hooks, the update, and from a config file to a run of one or several phases."""

from . import distillation, hooks, optim
from .checkpoints.weight_transfer import TransferReport, WeightMismatchError, transfer_weights
from .config import ConfigError, is_chain, load_config
from .phases import run_chain
from .runner.fsdp_strategy import FSDPStrategy
from .training import TrainOptions, build_runner, prepare_testing, prepare_training, run_training

__all__ = [
    'ConfigError', 'FSDPStrategy', 'TrainOptions', 'TransferReport', 'WeightMismatchError', 'build_runner',
    'distillation', 'hooks',
    'is_chain', 'load_config', 'optim', 'prepare_testing', 'prepare_training', 'run_chain', 'run_training',
    'transfer_weights',
]  # fmt: skip
