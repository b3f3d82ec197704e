"""Adapters, which change a built model in place, report what they changed, and can be undone."""

from hybridcls.old_modules import answer_old_names

from .lora import LoRA, LoRAReport, LoRASettings, add_lora, frozen_batchnorms, lora_layers
from .lora_files import load_adapters, save_adapters
from .lora_merging import MergedLoRA, merge_lora
from .lora_names import plain_name
from .merging_schedule import MergingRatio, MergingSchedule
from .token_merging import TokenMerging, TokenMergingHandle, add_token_merging, merged_tokens, remove_token_merging

__all__ = [
    'MergedLoRA',
    'LoRA',
    'LoRAReport',
    'LoRASettings',
    'MergingRatio',
    'MergingSchedule',
    'TokenMerging',
    'TokenMergingHandle',
    'add_lora',
    'add_token_merging',
    'merge_lora',
    'frozen_batchnorms',
    'load_adapters',
    'lora_layers',
    'merged_tokens',
    'plain_name',
    'remove_token_merging',
    'save_adapters',
]

answer_old_names(globals())
