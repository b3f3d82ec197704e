"""Build the teacher of a distillation from its config."""

from pathlib import Path
from typing import Any, Optional, Union

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from torch import nn

from hybridcls.checkpoint_reading import read_checkpoint, weights_of
from hybridcls.checks import did_you_mean
from hybridcls.models.weights.pretrained_weights import pretrained_weights
from hybridcls.models.weights.timm_weights import fit_timm_weights
from hybridcls.registry import MODELS
from hybridcls.structures import ClassNames

from ..checkpoints.files import check_checkpoint
from ..checkpoints.find_checkpoint import find_checkpoint
from ..checkpoints.weight_transfer import WeightMismatchError, check_taken, select_weights, shown_resized
from ..config import classifying_head, load_config
from ..config.checkpoint_config import check_types, config_of_checkpoint, follow_custom_imports, without_start

__all__ = ['build_teacher', 'is_checkpoint', 'model_in_checkpoint', 'teacher_image_size']


def build_teacher(
    teacher: Union[str, Path, dict, nn.Module],
    checkpoint: Optional[str] = None,
    num_classes: Optional[int] = None,
    with_weights: bool = True,
) -> nn.Module:
    """Build the model that a config names, with its weights.

    Args:
        teacher (str | Path | dict | nn.Module): A checkpoint of a training, or its work dir: its config is in it; the
            path of a config (ours or mmpretrain's, ``mmpretrain::...`` too); a dict with ``type``, the model of such a
            config; a dict with ``model_name``, any model of timm with its other arguments, and perhaps
            ``checkpoint_path``; or a model.
        checkpoint (str, optional): Weights: of a Runner, of timm, or bare ones.
        num_classes (int, optional): For a teacher that does not say its own: the student's.
        with_weights (bool): False builds it only, to look at its shapes. Defaults to True.

    Returns:
        nn.Module: Not yet frozen; ``class_names`` are those that the checkpoint was trained with, if it tells.

    Raises:
        TypeError: If ``teacher`` is none of these.
        ValueError: If no weights are given anywhere.
        WeightMismatchError: If the checkpoint does not hold every weight of it.
        FileNotFoundError: If a file is missing.
    """
    if is_checkpoint(teacher):
        found = find_checkpoint(teacher)  # type: ignore[arg-type]
        print_log(f'Teacher: {found.why}', 'current')
        teacher, checkpoint = model_in_checkpoint(found.path), checkpoint or found.path
    if isinstance(teacher, nn.Module):
        model, has_weights = teacher, True
    elif isinstance(teacher, dict) and 'model_name' in teacher:
        settings = dict(teacher)
        own = settings.pop('checkpoint_path', None)
        if own and checkpoint:
            raise ValueError(
                f'DistillationHook: expected one file of weights, got teacher_checkpoint={checkpoint!r} and '
                f'teacher.checkpoint_path={own!r}. Drop one of them.'
            )
        checkpoint = checkpoint or own or None
        model, has_weights = _timm_model(settings, num_classes, with_weights)
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
    loaded = read_checkpoint(checkpoint)
    weights = weights_of(loaded, checkpoint)
    # What a student of another teacher learned beside its own weights is no part of the model.
    state: Any = {name: value for name, value in weights.items() if not name.startswith('distill_projection.')}
    state, resized = fit_timm_weights(model, state)
    if resized:
        print_log(f'Teacher {checkpoint}: {shown_resized(resized)}', 'current')
    try:
        report = select_weights(state, model.state_dict(), parts=None)
    except WeightMismatchError as error:
        raise WeightMismatchError(
            f'DistillationHook: teacher_checkpoint={checkpoint!r} does not fit this teacher. {error}'
        ) from error
    missing = [name for name in report.new if not name.endswith('num_batches_tracked')]
    if missing or report.mismatched:
        raise WeightMismatchError(
            f'DistillationHook: teacher_checkpoint={checkpoint!r} does not fit this teacher:\n  {report}'
        )
    model.load_state_dict(report.state)
    check_taken(model, report.state, report.loaded, checkpoint)
    model.class_names = ClassNames.of_checkpoint(loaded)  # type: ignore[assignment]
    return model


def teacher_image_size(teacher: Any) -> Optional[Union[int, tuple[int, int]]]:
    """Return the image size at the top level of the teacher's config; None if it has none."""
    if is_checkpoint(teacher):
        path = find_checkpoint(teacher).path
        size = config_of_checkpoint(read_checkpoint(path), path).get('img_size')
        return size if size is None or isinstance(size, int) else (size[0], size[1])
    if isinstance(teacher, (str, Path)):
        _check_is_no_timm_name(str(teacher))
        size = load_config(teacher).get('img_size')
        return size if size is None or isinstance(size, int) else (size[0], size[1])
    return None


def is_checkpoint(teacher: Any) -> bool:
    """Return whether a teacher is given as a checkpoint or a work dir, not as a config."""
    if not isinstance(teacher, (str, Path)):
        return False
    return str(teacher).endswith(('.pth', '.pt', '.safetensors')) or Path(teacher).expanduser().is_dir()


def model_in_checkpoint(path: str) -> dict:
    """Read the model from the config in a checkpoint, without the weights that its training started from."""
    cfg = config_of_checkpoint(read_checkpoint(path), path)
    follow_custom_imports(cfg, path)
    check_types(cfg.model, path)
    return without_start(cfg.model)


def _registered_model(teacher: Any, num_classes: Optional[int]) -> tuple[nn.Module, bool]:
    """Build a model of the registry; return also whether its config names weights for all of it."""
    if isinstance(teacher, (str, Path)):
        _check_is_no_timm_name(str(teacher))
        cfg = load_config(teacher)
    elif isinstance(teacher, dict) and 'type' in teacher:
        cfg = Config(dict(model=dict(teacher), default_scope='hybridcls'))
    else:
        raise TypeError(
            f'DistillationHook: teacher={teacher!r} is neither the path of a config or of a checkpoint, nor a dict '
            "with 'type' or 'model_name', nor a model. Give --teacher CHECKPOINT (the key teacher)."
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


def _check_is_no_timm_name(teacher: str) -> None:
    """Raise a ValueError for the bare name of a timm model where the path of a config is expected."""
    if teacher.endswith('.py') or Path(teacher).exists():
        return
    import timm

    if timm.is_model(teacher):
        raise ValueError(
            f'DistillationHook: expected the path of a config, got teacher={teacher!r}, which is a timm model. Write '
            f'teacher=dict(model_name={teacher!r}), with pretrained=True or checkpoint_path=...'
        )


def _timm_model(args: dict, num_classes: Optional[int], with_weights: bool) -> tuple[nn.Module, bool]:
    """Create a timm model with its classifier; return also whether timm loaded weights for it."""
    import timm

    name, pretrained = args.pop('model_name'), bool(args.pop('pretrained', False)) and with_weights
    if not timm.is_model(name):
        raise ValueError(f'DistillationHook: timm has no model {name!r}.{did_you_mean(str(name), timm.list_models())}')
    if num_classes is not None and not pretrained:  # with weights, another number would cost the classifier
        args.setdefault('num_classes', num_classes)
    known = timm.get_pretrained_cfg(name) if pretrained else None
    if known is not None:
        overlay = args.pop('pretrained_cfg_overlay', None) or {}
        file = pretrained_weights('DistillationHook', name, {**known.to_dict(), **overlay}, args.get('cache_dir'))
        args['pretrained_cfg_overlay'] = overlay if '://' in file else {**overlay, 'file': file}
    return timm.create_model(name, pretrained=pretrained, **args), pretrained
