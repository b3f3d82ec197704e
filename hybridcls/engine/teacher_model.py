"""Build the teacher of a distillation from what a config says about it."""

from pathlib import Path
from typing import Any, Optional, Union

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from torch import nn

from hybridcls.checkpoint_reading import read_weights
from hybridcls.checks import did_you_mean
from hybridcls.models.modules.timm_weights import fit_timm_weights
from hybridcls.registry import MODELS

from .checkpoints.files import check_checkpoint
from .checkpoints.weight_transfer import WeightMismatchError, check_taken, select_weights, shown_resized
from .config import load_config
from .said_once import classifying_head

__all__ = ['add_distillation_projection', 'build_teacher', 'teacher_image_size']


def build_teacher(
    teacher: Union[str, Path, dict, nn.Module],
    checkpoint: Optional[str] = None,
    num_classes: Optional[int] = None,
    with_weights: bool = True,
) -> nn.Module:
    """Return the model that a config names, with its weights.

    Args:
        teacher (str | Path | dict | nn.Module): The path of a config (ours or mmpretrain's, ``mmpretrain::...`` too);
            a dict with ``type``, the model of such a config; a dict with ``model_name``, any model of timm with its
            other arguments; or a model.
        checkpoint (str, optional): Weights: of a Runner, of timm, or bare ones.
        num_classes (int, optional): For a teacher that does not say its own: the student's.
        with_weights (bool): False builds it only, to look at its shapes. Defaults to True.

    Returns:
        nn.Module: Not yet frozen.

    Raises:
        TypeError: If ``teacher`` is none of these.
        ValueError: If no weights are given anywhere.
        WeightMismatchError: If the checkpoint does not hold every weight of it.
        FileNotFoundError: If a file is missing.
    """
    if isinstance(teacher, nn.Module):
        model, has_weights = teacher, True
    elif isinstance(teacher, dict) and 'model_name' in teacher:
        model, has_weights = _timm_model(dict(teacher), num_classes, with_weights)
    else:
        model, has_weights = _registered_model(teacher, num_classes)
    if not with_weights:
        return model
    if checkpoint is None:
        if not has_weights:
            raise ValueError(
                'DistillationHook: the teacher has no weights, so there is nothing to learn from it. Give '
                "teacher_checkpoint='path/to/epoch_N.pth' (or pretrained=True to a timm model)."
            )
        return model
    check_checkpoint(checkpoint)
    weights = read_weights(checkpoint)
    # What a student of another teacher learned beside its own weights is no part of the model.
    state: Any = {name: value for name, value in weights.items() if not name.startswith('distill_projection.')}
    state, resized = fit_timm_weights(model, state)
    if resized:
        print_log(f'Teacher {checkpoint}: {shown_resized(resized)}', 'current')
    try:
        report = select_weights(state, model.state_dict(), parts=None)
    except WeightMismatchError as error:
        raise WeightMismatchError(
            f'DistillationHook: teacher_checkpoint={checkpoint!r} is not of this teacher. {error}'
        ) from error
    missing = [name for name in report.new if not name.endswith('num_batches_tracked')]
    if missing or report.mismatched:
        raise WeightMismatchError(
            f'DistillationHook: teacher_checkpoint={checkpoint!r} is not of this teacher:\n  {report}'
        )
    model.load_state_dict(report.state)
    check_taken(model, report.state, report.loaded, checkpoint)
    return model


def teacher_image_size(teacher: Any) -> Optional[Union[int, tuple[int, int]]]:
    """Return the image size that the teacher's config says at its top level, if there is one."""
    if isinstance(teacher, (str, Path)):
        size = load_config(teacher).get('img_size')
        return size if size is None or isinstance(size, int) else (size[0], size[1])
    return None


def _registered_model(teacher: Any, num_classes: Optional[int]) -> tuple[nn.Module, bool]:
    """Build a model of the registry; and whether its config names weights for all of it."""
    if isinstance(teacher, (str, Path)):
        cfg = load_config(teacher)
    elif isinstance(teacher, dict) and 'type' in teacher:
        cfg = Config(dict(model=dict(teacher), default_scope='hybridcls'))
    else:
        raise TypeError(
            f'DistillationHook: teacher={teacher!r} is neither the path of a config, nor a dict with '
            "'type' or 'model_name', nor a model."
        )
    head = classifying_head(cfg)
    if head is not None and head.get('num_classes') is None:
        head['num_classes'] = num_classes
    has_weights = 'checkpoint' in (cfg.model.get('init_cfg') or {})  # those of a backbone alone classify nothing
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    if has_weights:
        model.init_weights()
    return model, has_weights


def _timm_model(args: dict, num_classes: Optional[int], with_weights: bool) -> tuple[nn.Module, bool]:
    """Create a timm model with its classifier; and whether timm has given it weights."""
    import timm

    name, pretrained = args.pop('model_name'), bool(args.pop('pretrained', False)) and with_weights
    if not timm.is_model(name):
        raise ValueError(f'DistillationHook: timm has no model {name!r}.{did_you_mean(str(name), timm.list_models())}')
    if num_classes is not None and not pretrained:  # with weights, another number would cost the classifier
        args.setdefault('num_classes', num_classes)
    try:
        return timm.create_model(name, pretrained=pretrained, **args), pretrained
    except OSError as error:
        raise FileNotFoundError(
            f'DistillationHook: the pretrained weights of {name} are not in the local cache and could not be fetched '
            f'({type(error).__name__}). Go online once, or give a local file with teacher_checkpoint=...'
        ) from error


def add_distillation_projection(cfg: Config) -> None:
    """Give the model of a config the projection that its ``DistillationHook(feature_weight=...)`` learns, in place.

    It is a part of the model, so that optimizer, DDP, EMA and checkpoints treat it like any other; its width is that of
    the teacher's embedding. A width that the config says itself stays.
    """
    for hook in cfg.get('custom_hooks') or []:
        if str(hook.get('type')).rsplit('.', 1)[-1] != 'DistillationHook' or not hook.get('feature_weight'):
            continue
        model = cfg.get('model') or {}
        kind = str(model.get('type')).rsplit('.', 1)[-1]
        if kind not in ('HybridClassifier', 'MCDropoutClassifier') or model.get('distill_projection'):
            return
        from hybridcls.models.classifiers import Teacher

        head = classifying_head(cfg)
        teacher = build_teacher(
            hook['teacher'], num_classes=head.get('num_classes') if head else None, with_weights=False
        )
        size = cfg.get('img_size') or 224
        height, width = (size, size) if isinstance(size, int) else size
        own_size = hook.get('teacher_img_size') or teacher_image_size(hook['teacher'])
        model['distill_projection'] = Teacher(teacher, own_size).embedding_width(height, width)
