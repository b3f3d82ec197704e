"""Private parts of mmengine that hybridcls uses. Run with onedl-mmengine 0.10.12.

The names below import nothing heavy. Classes that are built on private methods of mmengine's have files of their own,
from which they are imported: ``writing_checkpoint_hook``, ``runner``, ``strategy``.
"""

from .accumulation import (
    AccumulationCounts,
    accumulation_counts,
    clip_and_log_gradient,
    count_micro_batch,
    set_accumulation_counts,
)
from .config_files import (
    ConfigSource,
    is_lazy_config,
    lazy_bases,
    merge,
    read_lazy_config,
    read_source,
    register_package,
    run_source,
    shipped_config,
    with_scope,
)
from .datasets import rewrite_data, update_metainfo, whole_dataset
from .global_instances import instances_of
from .late_adafactor import import_transformers_late
from .registries import add_to_root
from .runner_state import bare_model, built_loop, loaded_from, resume_from, resumes, rewrap

__all__ = [
    'AccumulationCounts', 'ConfigSource', 'accumulation_counts', 'add_to_root', 'bare_model', 'built_loop',
    'clip_and_log_gradient', 'count_micro_batch', 'import_transformers_late', 'instances_of', 'is_lazy_config',
    'lazy_bases', 'loaded_from', 'merge', 'read_lazy_config', 'read_source', 'register_package', 'resume_from',
    'resumes', 'rewrap', 'rewrite_data', 'run_source', 'set_accumulation_counts', 'shipped_config', 'update_metainfo',
    'whole_dataset', 'with_scope',
]  # fmt: skip
