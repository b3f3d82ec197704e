"""Tensors over several processes: gathered with gradients, sharded by rows, or laid out by torch (DTensor)."""

from .gather import gather_rows, has_process_group, num_processes, row_counts, stack_of_processes
from .row_shard import RowShard
from .sharded_parameters import exclude_from_ddp, gather_whole, shard_rows, sharded_parameters
from .sharded_softmax import sharded_cosine_logits, sharded_margin_cross_entropy

__all__ = [
    'RowShard',
    'gather_rows',
    'gather_whole',
    'has_process_group',
    'exclude_from_ddp',
    'num_processes',
    'row_counts',
    'shard_rows',
    'sharded_cosine_logits',
    'sharded_margin_cross_entropy',
    'sharded_parameters',
    'stack_of_processes',
]
