"""Learn from a frozen model: distillation from a teacher, and embeddings compatible with an old model's."""

from .backward_compat_hook import BackwardCompatHook
from .distillation_hook import DistillationHook
from .distillation_width import distillation_width
from .teacher_model import build_teacher

__all__ = [
    'BackwardCompatHook',
    'DistillationHook',
    'build_teacher',
    'distillation_width',
]
