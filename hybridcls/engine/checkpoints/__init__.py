"""Checkpoints: written atomically, checked, and taken over by another model."""

from .files import check_checkpoint, newest_whole_checkpoint, write_whole
from .weight_transfer import TransferReport, WeightMismatchError, select_weights, transfer_weights

__all__ = [
    'TransferReport', 'WeightMismatchError', 'check_checkpoint', 'newest_whole_checkpoint', 'select_weights',
    'transfer_weights', 'write_whole',
]  # fmt: skip
