"""The distillation losses that a teacher adds to those of a classifier."""

from typing import Any

from torch import Tensor

from hybridcls.distributed import gather_rows
from hybridcls.functional import cosine_feature_loss, distance_relation_loss, kd_kl_loss
from hybridcls.functional.tokens.feature_pooling import pool_feature

from .teacher import Teacher

__all__ = ['Distillation']


class Distillation:
    r"""Distillation losses of a student, as entries in its dictionary of losses.

    .. math::
        (1 - w) \, L_{task} + w \, T^2 \, \mathrm{KL}(p_T \,\|\, p_S)
        + w_f \, (1 - \cos(P z_S, z_T)) + w_r \, L_{relation}

    It is no ``nn.Module``: see :class:`Teacher`. The settings may be changed from step to step.

    Args:
        teacher (Teacher): The frozen teacher.
        distill_weight (float): w in [0, 1].
        temperature (float): T > 0.
        feature_weight (float): :math:`w_f`; P is the student's ``distill_projection``.
        relation_weight (float): :math:`w_r`. Its pairs are those of the batch of all processes.
    """

    def __init__(
        self,
        teacher: Teacher,
        distill_weight: float,
        temperature: float,
        feature_weight: float = 0.0,
        relation_weight: float = 0.0,
    ) -> None:
        self.teacher = teacher
        self.distill_weight = distill_weight
        self.temperature = temperature
        self.feature_weight = feature_weight
        self.relation_weight = relation_weight

    def __deepcopy__(self, memo: dict) -> 'Distillation':
        return self

    def add_to(self, losses: dict[str, Any], student: Any, images: Tensor, features: Any) -> dict[str, Any]:
        """Weight the losses of the task, and add the distillation losses.

        Args:
            losses (dict[str, Tensor | list[Tensor]]): The head's; entries whose name contains ``loss`` are its task.
            student (HybridClassifier): The classifier.
            images (Tensor): What it saw, RGB in [0, 1], all views.
            features (tuple[Tensor, ...]): Its embedding, as the head gets it.

        Returns:
            dict[str, Tensor]: With ``loss_distill``, and ``loss_feature`` and ``loss_relation`` where they are on.
        """
        logits, embedding = self.teacher(images)
        weight = self.distill_weight
        result = {}
        for name, value in losses.items():
            if 'loss' in name:
                value = [part * (1 - weight) for part in value] if isinstance(value, list) else value * (1 - weight)
            result[name] = value
        if weight > 0:
            result['loss_distill'] = weight * kd_kl_loss(student.head(features), logits, self.temperature)
        own = pool_feature(features if isinstance(features, Tensor) else features[-1])
        if self.feature_weight > 0:
            projected = student.distill_projection(own)
            result['loss_feature'] = self.feature_weight * cosine_feature_loss(projected, embedding)
        if self.relation_weight > 0:
            # Over all processes: half as many images each have other pairs, and another mean distance.
            (own, embedding), _ = gather_rows(own, embedding)
            result['loss_relation'] = self.relation_weight * distance_relation_loss(own, embedding)
        return result
