"""Adapters: they change a built model in place, say what they touched, and can be undone."""
from .merging_schedule import MergingRatio, MergingSchedule
from .token_merging import TokenMerging, add_token_merging, merged_tokens, remove_token_merging

__all__ = [
    'MergingRatio', 'MergingSchedule', 'TokenMerging', 'add_token_merging', 'merged_tokens', 'remove_token_merging'
]
