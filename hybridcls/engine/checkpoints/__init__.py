"""Checkpoints: write them atomically, check them, and transfer their weights to another model."""

from hybridcls.old_modules import answer_old_names

from .files import atomic_write, check_checkpoint, latest_valid_checkpoint
from .find_checkpoint import FoundCheckpoint, find_checkpoint
from .weight_transfer import TransferReport, WeightMismatchError, select_weights, transfer_weights

__all__ = [
    'FoundCheckpoint', 'TransferReport', 'WeightMismatchError', 'atomic_write', 'check_checkpoint', 'find_checkpoint',
    'latest_valid_checkpoint', 'select_weights', 'transfer_weights',
]  # fmt: skip

answer_old_names(globals())
