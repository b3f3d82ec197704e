"""Train a classifier with a teacher."""

import math
from pathlib import Path
from typing import Any, Optional, Union

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from hybridcls.checks import check_choice, check_known_keys, check_number
from hybridcls.compat.mmengine import bare_model, built_loop
from hybridcls.datasets import class_names_of
from hybridcls.models.classifiers import Distillation, HybridClassifier, Teacher
from hybridcls.models.heads.head import is_multi_label
from hybridcls.registry import HOOKS
from hybridcls.replay.random_state import isolated_randomness

from .teacher_model import build_teacher, teacher_image_size

Scheduled = Union[float, dict]


@HOOKS.register_module()
class DistillationHook(Hook):
    r"""Load and freeze a teacher, and add its distillation losses to the student's training.

    .. math::
        (1 - w) \, L_{task} + w \, T^2 \, \mathrm{KL}(p_T \,\|\, p_S)

    `Hinton et al. <https://arxiv.org/abs/1503.02531>`_, on the logits of the head (of margin heads: cosines times
    scale, without the margin), optionally with the cosine between embeddings (through a linear projection that is
    learned with the student) and the distances within a batch (`Park et al. <https://arxiv.org/abs/1904.05068>`_).

    The student is a ``HybridClassifier``, which owns the terms; this hook builds the teacher before training and
    schedules the weights. Teacher and student see the same augmented, mixed images in all their views, each in its own
    normalisation and size. The teacher runs once a batch, also under SAM, without gradients and under the student's
    mixed precision; it is in no checkpoint, no optimizer and no bucket of DDP, and validation is done without it. The
    student's random numbers are those it would have without a teacher. The values follow from the iteration, so a
    resume goes on with the right ones.

    Args:
        teacher (str | dict | nn.Module): A checkpoint of a training, or its work dir; the path of a config, ours or
            mmpretrain's (``'mmpretrain::resnet/...py'``); the model of such a config; ``dict(model_name=...)`` for any
            timm model, with ``checkpoint_path=`` for its weights; or a model.
        teacher_checkpoint (str, optional): Its weights, where ``teacher`` is a config. Only a timm model with
            ``pretrained=True``, a config with an ``init_cfg`` or a model given as it is can do without.
        distill_weight (float | dict): w in [0, 1]; 0 leaves the logits out, and the task with its full weight.
            A schedule is ``dict(start=0.5, end=0.1, curve='linear')``, or ``curve='cosine'``, from the first iteration
            to the last. Defaults to 0.3.
        temperature (float | dict): T > 0, a number or a schedule. Defaults to 2.
        feature_weight (float): Factor of the cosine between projected embedding and the teacher's. Defaults to 0.
        relation_weight (float): Factor of the distances within a batch. Defaults to 0.
        teacher_img_size (int | Sequence[int], optional): Size that the teacher sees. Defaults to None: what its config
            says, or the only size it takes, or the student's.
        compile (bool | dict): Compile the teacher; a dict is given to ``torch.compile``. Defaults to False.

    Raises:
        ValueError: For numbers out of range, a teacher with other classes or without weights.
        TypeError: If the student is no ``HybridClassifier``, or a model is none that can teach.
    """

    def __init__(
        self,
        teacher: Union[str, Path, dict, nn.Module],
        teacher_checkpoint: Optional[str] = None,
        distill_weight: Scheduled = 0.3,
        temperature: Scheduled = 2.0,
        feature_weight: float = 0.0,
        relation_weight: float = 0.0,
        teacher_img_size: Any = None,
        compile: Union[bool, dict] = False,
    ) -> None:
        self._schedules = dict(
            distill_weight=_read_schedule('distill_weight', distill_weight, 0.0, 1.0),
            temperature=_read_schedule('temperature', temperature, 0.0, math.inf, low_open=True),
        )
        check_number('DistillationHook', 'feature_weight', feature_weight, 0)
        check_number('DistillationHook', 'relation_weight', relation_weight, 0)
        if not any((feature_weight, relation_weight, *self._schedules['distill_weight'][:2])):
            raise ValueError(
                'DistillationHook: distill_weight, feature_weight and relation_weight are all 0, so '
                'nothing is distilled. Drop the hook, or give one of them a weight.'
            )
        self.teacher = teacher
        self.teacher_checkpoint = teacher_checkpoint
        self.feature_weight = feature_weight
        self.relation_weight = relation_weight
        self.teacher_img_size = teacher_img_size
        self.compile = compile
        self._term: Optional[Distillation] = None

    def before_run(self, runner: Runner) -> None:
        """Build the teacher and check that it matches the student, before the training; a test needs no teacher."""
        if self._term is not None or built_loop(runner, 'train') is None:
            return
        student = _student_of(runner)
        needs_logits = any(self._schedules['distill_weight'][:2])
        classes = getattr(student.head, 'num_classes', None)
        if needs_logits and classes is None:
            raise ValueError(
                f'DistillationHook: the head of the student, {type(student.head).__name__}, gives no logits. Set '
                'distill_weight=0 and feature_weight or relation_weight, or use a head with classes.'
            )
        with isolated_randomness():
            model = build_teacher(self.teacher, self.teacher_checkpoint, classes)
        teacher = Teacher(model, self.teacher_img_size or teacher_image_size(self.teacher), self.compile)
        several = [part for part in (student, model) if is_multi_label(getattr(part, 'head', None))]
        if needs_logits and several:
            raise ValueError(
                'DistillationHook: expected heads whose classes exclude each other, got '
                f'{type(several[0].head).__name__}, whose logits are for several labels per image. Set '
                'distill_weight=0 and feature_weight or relation_weight.'
            )
        if needs_logits and teacher.num_classes != classes:
            raise ValueError(
                f'DistillationHook: the teacher knows {teacher.num_classes} classes and the student {classes}; their '
                'logits cannot be compared. Use a teacher with the same classes, or set distill_weight=0 and '
                'feature_weight or relation_weight.'
            )
        names = class_names_of(runner.train_dataloader.dataset)
        theirs = getattr(model, 'class_names', None)
        if needs_logits and names is not None and theirs is not None and (moved := theirs.moved(names)):
            raise ValueError(
                f'DistillationHook: expected a teacher whose classes have the numbers of the training data, got '
                f'{theirs.names[:10]}, where {moved[0]!r} has another number. Set classes=[...] in '
                'train_dataloader.dataset to the order of the teacher.'
            )
        if self.feature_weight > 0 and not hasattr(student, 'distill_projection'):
            width = teacher.embedding_width(224, 224)
            raise ValueError(
                'DistillationHook: feature_weight needs a projection that is trained with the student: '
                f'model=dict(distill_projection={width}). (`hybridcls train` sets it.)'
            )
        weight, temperature = self._values(0, 1)
        self._term = Distillation(teacher, weight, temperature, self.feature_weight, self.relation_weight)

    def before_train(self, runner: Runner) -> None:
        """Attach the teacher."""
        _student_of(runner).distillation = self._term

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set the loss weight and the temperature of this iteration."""
        if self._term is not None:
            self._term.distill_weight, self._term.temperature = self._values(runner.iter, runner.max_iters)

    def after_train(self, runner: Runner) -> None:
        """Detach the teacher."""
        _student_of(runner).distillation = None

    def _values(self, iteration: int, iterations: int) -> tuple[float, float]:
        """Return loss weight w and temperature T; the last iteration has the end value of a schedule."""
        done = iteration / max(1, iterations - 1)
        weight, temperature = (_at(schedule, done) for schedule in self._schedules.values())
        return weight, temperature


def _read_schedule(name: str, value: Scheduled, low: float, high: float, **kwargs: Any) -> tuple[float, float, str]:
    """Return start, end and curve of a number or a schedule."""
    if isinstance(value, dict):
        caller = f'DistillationHook: {name}'
        check_known_keys(caller, value, ('start', 'end', 'curve'))
        for key in ('start', 'end'):
            if key not in value:
                raise ValueError(f'{caller}={value} lacks the key {key!r}; a schedule is dict(start=..., end=...).')
        check_choice(caller, 'curve', value.get('curve', 'linear'), ('linear', 'cosine'))
        start, end, curve = value['start'], value['end'], value.get('curve', 'linear')
    else:
        start, end, curve = value, value, 'linear'
    for number in (start, end):
        check_number('DistillationHook', name, number, low, high, **kwargs)
    return start, end, curve


def _at(schedule: tuple[float, float, str], done: float) -> float:
    start, end, curve = schedule
    share = done if curve == 'linear' else (1 - math.cos(math.pi * done)) / 2
    return start + (end - start) * share


def _student_of(runner: Runner) -> HybridClassifier:
    model = bare_model(runner.model)
    if not isinstance(model, HybridClassifier):
        raise TypeError(
            f'DistillationHook: the student is a {type(model).__name__}. It must be a HybridClassifier, '
            'which takes backbones, necks and heads of mmpretrain too.'
        )
    if not getattr(model.data_preprocessor, 'gives_unit_range', False):
        raise TypeError(
            f'DistillationHook: the student has a {type(model.data_preprocessor).__name__}, whose images a '
            "teacher cannot read. Use data_preprocessor=dict(type='HybridDataPreprocessor') without mean and std."
        )
    return model
