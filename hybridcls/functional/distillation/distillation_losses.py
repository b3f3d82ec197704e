"""Losses between student and teacher: softened scores, directions of embeddings, distances within a batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridcls.checks import check_number

from ..full_precision import at_least_float32, outside_autocast

__all__ = ['cosine_feature_loss', 'distance_relation_loss', 'kd_kl_loss']


def kd_kl_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 2.0) -> Tensor:
    r"""Return :math:`T^2 \, \mathrm{KL}(p_T \,\|\, p_S)` of the scores softened by T, averaged over the samples.

    Section 2 of `Distilling the Knowledge in a Neural Network <https://arxiv.org/abs/1503.02531>`_:
    :math:`p = \mathrm{softmax}(z / T)`, the teacher's distribution first. The factor :math:`T^2` keeps the size of the
    gradients when T changes. It is computed from logarithms in float32, so no logit is too large.

    Args:
        student_logits (Tensor): Shape (N, C), any floating dtype.
        teacher_logits (Tensor): The same; taken as constants.
        temperature (float): T > 0, unitless. Defaults to 2.

    Returns:
        Tensor: A scalar >= 0, float32 or float64.

    Raises:
        ValueError: If the shapes differ or T is out of range.

    Example:
        >>> logits = torch.tensor([[4., 0.], [0., 1.]])
        >>> kd_kl_loss(logits, logits).item()
        0.0
    """
    check_number('kd_kl_loss', 'temperature', temperature, 0, low_open=True)
    if student_logits.shape != teacher_logits.shape or student_logits.dim() != 2:
        raise ValueError(
            f'kd_kl_loss: the student gives logits {tuple(student_logits.shape)} and the teacher '
            f'{tuple(teacher_logits.shape)}; both must be (N, C), with the same classes.'
        )
    with outside_autocast(student_logits):
        student = F.log_softmax(at_least_float32(student_logits) / temperature, dim=1)
        teacher = F.log_softmax(at_least_float32(teacher_logits.detach()) / temperature, dim=1).to(student.dtype)
        return temperature**2 * F.kl_div(student, teacher, reduction='batchmean', log_target=True)


def cosine_feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Return the mean of :math:`1 - \cos(s_i, t_i)` over the samples, in [0, 2].

    Args:
        student (Tensor): Embeddings, projected to the teacher's width, shape (N, D), any length and floating dtype.
        teacher (Tensor): The same; taken as constants.

    Returns:
        Tensor: A scalar, float32 or float64.

    Example:
        >>> cosine_feature_loss(torch.tensor([[2., 0.], [0., 1.]]), torch.tensor([[1., 0.], [0., -3.]])).item()
        1.0
    """
    with outside_autocast(student):
        student = at_least_float32(student)
        return (1 - F.cosine_similarity(student, at_least_float32(teacher.detach()).to(student.dtype), dim=1)).mean()


def distance_relation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Compare the distances between the embeddings of a batch, in units of their mean.

    .. math::
        L = \mathrm{mean}_{i \ne j} \; l_1(\psi(t_i, t_j), \psi(s_i, s_j)), \quad
        \psi(x_i, x_j) = \|x_i - x_j\| / \mu

    The distance-wise loss of `Relational Knowledge Distillation <https://arxiv.org/abs/1904.05068>`_ (eq. 5 to 7), with
    :math:`l_1` the Huber loss and :math:`\mu` the mean distance of the batch. The widths of the two may differ. The
    authors' code (lenscholar/RKD) averages over i = j too, whose terms are 0: its value is (N - 1) / N times this one.

    Args:
        student (Tensor): Embeddings, shape (N, D), any floating dtype.
        teacher (Tensor): Embeddings, shape (N, D'); taken as constants.

    Returns:
        Tensor: A scalar >= 0, float32 or float64; 0 for a batch of one.

    Example:
        >>> points = torch.tensor([[0.], [1.], [3.]])
        >>> distance_relation_loss(points, 5 * points).item()  # the same but for the scale
        0.0
    """
    with outside_autocast(student):
        student, teacher = at_least_float32(student), at_least_float32(teacher.detach())
        if len(student) < 2:
            return student.sum() * 0
        return F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher).to(student.dtype))


def _relative_distances(embeddings: Tensor) -> Tensor:
    """Return the distances of all pairs over their mean, shape (N (N - 1) / 2,)."""
    first, second = torch.triu_indices(len(embeddings), len(embeddings), offset=1, device=embeddings.device)
    squared = (embeddings[first] - embeddings[second]).square().sum(1)
    tiny = torch.finfo(embeddings.dtype).tiny
    # Equal embeddings: the derivative of the root is infinite at 0, and 0 * inf would be NaN.
    distances = torch.where(squared > tiny, squared.clamp(min=tiny).sqrt(), squared.detach())
    return distances / distances.mean().clamp(min=tiny**0.5)
