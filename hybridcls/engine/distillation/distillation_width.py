"""Fill the width of the projection from a student's embedding to the teacher's."""

from collections.abc import Iterator

from mmengine.config import Config

from ..config import Change, classifying_head
from ..config.tree import ABSENT, is_a
from .distillation_hook import DistillationHook
from .teacher_model import build_teacher, teacher_image_size

__all__ = ['distillation_width']


def distillation_width(cfg: Config) -> Iterator[Change]:
    """Add the projection that ``DistillationHook(feature_weight=...)`` trains to the model of a config.

    It is a part of the model, so that optimizer, DDP, EMA and checkpoints treat it like any other; its width is that of
    the teacher's embedding. A width that is written stays.
    """
    from hybridcls.models.classifiers import HybridClassifier, Teacher

    model = cfg.get('model') or {}
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    hook = next((hook for hook in hooks if is_a('HOOKS', hook, DistillationHook)), None)
    if hook is None or not hook.get('feature_weight'):
        return
    if not is_a('MODELS', model, HybridClassifier) or model.get('distill_projection'):
        return
    head = classifying_head(cfg)
    teacher = build_teacher(hook['teacher'], num_classes=head.get('num_classes') if head else None, with_weights=False)
    size = cfg.get('img_size') or 224
    height, width = (size, size) if isinstance(size, int) else size
    own_size = hook.get('teacher_img_size') or teacher_image_size(hook['teacher'])
    path = ('model', 'distill_projection')
    found = Teacher(teacher, own_size).embedding_width(height, width)
    yield Change(path, model.get('distill_projection', ABSENT), found, "width of the teacher's embedding")
