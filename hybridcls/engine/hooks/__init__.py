"""Hooks: what happens when, around the training loop."""

from .batch_check_hook import BatchCheckHook
from .checkpoint_hook import CheckpointHook
from .checkpoint_match_hook import CheckpointMatchHook
from .class_margins_hook import ClassMarginsHook
from .distillation_hook import DistillationHook
from .embedding_bank_hook import EmbeddingBankHook
from .learning_curves_hook import LearningCurvesHook
from .preemption_hook import PreemptionHook
from .random_state_hook import RandomStateHook, seed_worker
from .resume_hook import ResumeHook
from .sharded_rows_hook import ShardedRowsHook
from .slow_weights_hook import SlowWeightsHook
from .token_merging_hook import TokenMergingHook
from .transfer_hook import TransferHook

__all__ = [
    'BatchCheckHook',
    'CheckpointHook',
    'CheckpointMatchHook',
    'ClassMarginsHook',
    'DistillationHook',
    'EmbeddingBankHook',
    'LearningCurvesHook',
    'PreemptionHook',
    'RandomStateHook',
    'ResumeHook',
    'ShardedRowsHook',
    'SlowWeightsHook',
    'TokenMergingHook',
    'TransferHook',
    'seed_worker',
]
