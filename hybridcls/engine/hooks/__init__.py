"""Hooks: what happens when, around the training loop."""
from .checkpoint_hook import CheckpointHook
from .checkpoint_match_hook import CheckpointMatchHook
from .class_margins_hook import ClassMarginsHook
from .random_state_hook import RandomStateHook, seed_worker
from .transfer_hook import TransferHook

__all__ = [
    'CheckpointHook', 'CheckpointMatchHook', 'ClassMarginsHook', 'RandomStateHook', 'TransferHook', 'seed_worker'
]
