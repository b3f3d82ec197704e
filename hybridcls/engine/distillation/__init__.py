"""Distillation: the teacher, built from its config, and the hook that schedules it."""

from .distillation_hook import DistillationHook
from .distillation_width import distillation_width
from .teacher_model import build_teacher

__all__ = [
    'DistillationHook',
    'build_teacher',
    'distillation_width',
]
