"""Cross entropy over scaled cosines, with a margin on the target class."""

from collections.abc import Callable
from typing import Optional, Union

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridcls.checks import check_choice
from hybridcls.renames import keeps_old_spellings

from ..full_precision import outside_autocast
from ..l2_normalize import l2_normalize
from ..product_precision import PRODUCT_PRECISIONS, is_exact, product
from .streamed_softmax import SoftmaxStats, softmax_stats

__all__ = [
    'SOFTMAX_FORMS',
    'cosine_logits',
    'dense_softmax_stats',
    'margin_cross_entropy',
    'predicted_classes',
    'statistics_cross_entropy',
]

SOFTMAX_FORMS = ('auto', 'dense', 'streamed')

# Up to so many numbers in the logits and the normalized class weights together, dense is the faster form: measured on a
# CPU, where larger tensors are fetched from the system in each step. On a GPU a block costs launches, not pages.
_DENSE_IS_FASTER = dict(cpu=2**20)
_DENSE_IS_FASTER_ON_DEVICES = 2**24


@keeps_old_spellings
def cosine_logits(embeddings: Tensor, class_weights: Tensor, num_subcenters: int = 1) -> Tensor:
    """Return cosines between all embeddings and all class weights, in float32 also under autocast.

    Args:
        embeddings (Tensor): Shape (N, D), of any norm and floating dtype.
        class_weights (Tensor): Shape (C * K, D), the same, those of a class together.
        num_subcenters (int): K; the cosine of a class is the largest of its K. Defaults to 1.

    Returns:
        Tensor: Shape (N, C), float32 or float64, within [-1, 1] up to rounding.

    Example:
        >>> import torch
        >>> cosine_logits(torch.tensor([[2., 0.]]), torch.tensor([[1., 0.], [0., 5.], [-3., 0.]]))
        tensor([[ 1.,  0., -1.]])
    """
    with outside_autocast(embeddings):
        return _cosines(l2_normalize(embeddings)[0], class_weights, num_subcenters)


def _cosines(units: Tensor, class_weights: Tensor, num_subcenters: int, precision: str = 'float32') -> Tensor:
    cosines = product(units, l2_normalize(class_weights)[0].t(), precision)
    return cosines if num_subcenters == 1 else cosines.unflatten(1, (-1, num_subcenters)).amax(2)


@keeps_old_spellings
def margin_cross_entropy(
    embeddings: Tensor,
    class_weights: Tensor,
    labels: Tensor,
    margin: Callable[[Tensor, Tensor], Tensor],
    scale: float = 64.0,
    label_smoothing: float = 0.0,
    cosine_clip: Optional[float] = None,
    softmax: str = 'auto',
    num_subcenters: int = 1,
    memory: Optional[int] = None,
    logit_bias: Optional[Tensor] = None,
    sample_weights: Optional[Tensor] = None,
    precision: str = 'float32',
) -> tuple[Tensor, Tensor]:
    r"""Mean of :math:`-\log \frac{e^{s\,t_y}}{e^{s\,t_y} + \sum_{j \ne y} e^{s \cos\theta_j}}`, with t from ``margin``.

    ``margin`` sees only the N cosines to the target classes and the N norms, so the softmax over the C classes can be
    computed in two forms:

    - ``'dense'`` holds N x C logits, several times over with what autograd saves of them. It has second derivatives.
    - ``'streamed'`` visits the classes block by block (:func:`softmax_stats`), and needs memory linear in N and C.
    - ``'auto'``: dense where few classes make it the faster one (on a CPU up to (N + D) C = 2^20), streamed above.

    Args:
        embeddings (Tensor): Shape (N, D), of any norm and floating dtype.
        class_weights (Tensor): Class weights, shape (C * K, D), of any norm and floating dtype, those of a class
            together.
        labels (Tensor): Target classes, int64 in [0, C), shape (N,).
        margin (Callable): From the target cosines, shape (N,), and the norms of the embeddings, shape (N,), both
            float32 or float64, to the target logits before the scale, shape (N,).
        scale (float): s. Defaults to 64.
        label_smoothing (float): Share of the target that is spread evenly over all classes, in [0, 1). Defaults to 0.
        cosine_clip (float, optional): Keep all cosines this far from +-1, without gradient beyond (1e-3 in AdaFace's
            repository). Defaults to None.
        softmax (str): One of ``SOFTMAX_FORMS``. Defaults to 'auto'.
        num_subcenters (int): K; the cosine of a class is the largest of its K. Defaults to 1.
        memory (int, optional): Bytes for the blocks of the streamed form. Defaults to None: see
            :func:`softmax_stats`.
        logit_bias (Tensor, optional): What is added to the logit of each class, the target logit too, after the scale:
            an adjustment by the frequencies of the classes. Shape (C,), without gradient. Defaults to None.
        sample_weights (Tensor, optional): A factor for the loss of each embedding, shape (N,); the mean divides by N,
            not by their sum. Defaults to None.
        precision (str): Of the products: 'float32', 'tf32' or 'bfloat16', see :func:`softmax_stats`. Defaults to
            'float32'.

    Returns:
        tuple[Tensor, Tensor]: The loss, a scalar, float32 or float64; and the predicted classes, int64, shape (N,),
        those of the largest cosine without margin, the first one of equals.

    Raises:
        ValueError: If ``softmax`` or ``precision`` is unknown; if labels on a CPU are out of range (elsewhere a look
            would wait for the device).

    Example:
        >>> import torch
        >>> loss, predicted = margin_cross_entropy(
        ...     torch.tensor([[2., 0.]]), torch.eye(2), torch.tensor([0]), lambda cosine, norm: cosine - 0.5, scale=2.)
        >>> bool(torch.isclose(loss, torch.tensor(-1.).exp().log1p())), predicted
        (True, tensor([0]))
    """
    check_choice('margin_cross_entropy', 'softmax', softmax, SOFTMAX_FORMS)
    check_choice('margin_cross_entropy', 'precision', precision, PRODUCT_PRECISIONS)
    num_classes = len(class_weights) // num_subcenters
    if labels.device.type == 'cpu' and bool(((labels < 0) | (labels >= num_classes)).any()):
        raise ValueError(
            f'margin_cross_entropy: expected labels in [0, {num_classes - 1}] for the weights of {num_classes} '
            f'classes, got labels from {int(labels.min())} to {int(labels.max())}.'
        )
    if softmax == 'auto':
        size = (len(embeddings) + embeddings.shape[1]) * len(class_weights)
        most = _DENSE_IS_FASTER.get(embeddings.device.type, _DENSE_IS_FASTER_ON_DEVICES)
        softmax = 'dense' if size <= most else 'streamed'
    with outside_autocast(embeddings):
        units, norms = l2_normalize(embeddings)
        if softmax == 'streamed':
            statistics = softmax_stats(
                units,
                class_weights,
                labels,
                scale,
                cosine_clip,
                label_smoothing > 0,
                num_subcenters,
                memory,
                logit_bias=logit_bias,
                precision=precision,
            )
        else:
            cosines = _cosines(units, class_weights, num_subcenters, precision)
            statistics = dense_softmax_stats(cosines, labels, scale, cosine_clip, label_smoothing > 0, logit_bias)
            if not is_exact(precision, units):  # as the streamed form: the one number that a good sample hangs on
                own = l2_normalize(class_weights.unflatten(0, (-1, num_subcenters))[labels])[0]
                target_cosine = torch.linalg.vecdot(own, units.unsqueeze(1)).amax(1)
                statistics = statistics._replace(target_cosine=target_cosine)
        losses = statistics_cross_entropy(
            statistics,
            num_classes,
            lambda cosine: margin(cosine, norms),
            scale,
            label_smoothing,
            cosine_clip,
            None if logit_bias is None else logit_bias[labels],
        )
        if sample_weights is not None:
            losses = losses * sample_weights
        return losses.mean(), predicted_classes(statistics, labels)


def dense_softmax_stats(
    cosines: Tensor,
    labels: Tensor,
    scale: float = 64.0,
    cosine_clip: Optional[float] = None,
    with_sum: bool = False,
    logit_bias: Optional[Tensor] = None,
) -> SoftmaxStats:
    """Return the same as :func:`softmax_stats` from a matrix of cosines, which can be differentiated twice.

    Args:
        cosines (Tensor): Shape (N, C), float32 or float64.
        labels (Tensor): Target classes, int64 in [0, C), shape (N,).
        scale (float): s. Defaults to 64.
        cosine_clip (float, optional): See :func:`softmax_stats`.
        with_sum (bool): See :func:`softmax_stats`. Defaults to False.
        logit_bias (Tensor, optional): See :func:`softmax_stats`. Defaults to None.

    Example:
        >>> cosines, labels = torch.tensor([[0.5, -0.5]]), torch.tensor([0])
        >>> dense_softmax_stats(cosines, labels, scale=2.).log_sum_exp
        tensor([-1.])
    """
    target = labels.unsqueeze(1)
    # As low as the streamed form begins after the scale: finite, so that one class alone gives no NaN.
    lowest = torch.finfo(cosines.dtype).min / (4 * max(1.0, scale))
    clipped = cosines if cosine_clip is None else cosines.clamp(-1 + cosine_clip, 1 - cosine_clip)
    others = clipped.scatter(1, target, lowest)
    ranked = others if cosine_clip is None else cosines.scatter(1, target, lowest)
    best_cosine, best_class = ranked.detach().max(1)
    logits, cosine_sum = scale * others, clipped.sum(1) if with_sum else None
    if logit_bias is not None:
        logits = logits + logit_bias
        cosine_sum = None if cosine_sum is None else cosine_sum + logit_bias.sum() / scale
    return SoftmaxStats(cosines.gather(1, target).squeeze(1), logits.logsumexp(1), cosine_sum, best_cosine, best_class)


def statistics_cross_entropy(
    statistics: SoftmaxStats,
    num_classes: Union[int, Tensor],
    margin: Callable[[Tensor], Tensor],
    scale: float = 64.0,
    label_smoothing: float = 0.0,
    cosine_clip: Optional[float] = None,
    target_bias: Optional[Tensor] = None,
) -> Tensor:
    """Return the loss of each embedding from its statistics over all classes.

    Args:
        statistics (SoftmaxStats): Over all classes; with ``cosine_sum`` if labels are smoothed.
        num_classes (int | Tensor): C; or, where it is not known without waiting for the device, once an embedding.
        margin (Callable): From the target cosines, shape (N,), to the target logits before the scale, shape (N,).
        scale, label_smoothing, cosine_clip: As in :func:`margin_cross_entropy`, and as the statistics were made with.
        target_bias (Tensor, optional): ``logit_bias`` of each embedding's target class, shape (N,), where the
            statistics were made with one. Defaults to None.

    Returns:
        Tensor: Shape (N,), float32 or float64.

    Raises:
        ValueError: If labels are smoothed and the statistics have no sum.

    Example:
        >>> statistics = softmax_stats(torch.tensor([[0., 1.]]), torch.eye(2), torch.tensor([1]), scale=2.)
        >>> loss = statistics_cross_entropy(statistics, 2, lambda cosine: cosine - 0.5, scale=2.)
        >>> bool(torch.isclose(loss, torch.tensor([-1.]).exp().log1p()))
        True
    """
    cosine = statistics.target_cosine
    if cosine_clip is not None:
        cosine = cosine.clamp(-1 + cosine_clip, 1 - cosine_clip)
    target = scale * margin(cosine)
    unbiased = target
    if target_bias is not None:
        target = target + target_bias
    losses = -F.logsigmoid(target - statistics.log_sum_exp)
    if label_smoothing:
        if statistics.cosine_sum is None:
            raise ValueError(
                f'statistics_cross_entropy: label_smoothing={label_smoothing} needs the sum of all cosines, expected '
                'statistics with cosine_sum, got None. Take them with_sum=True.'
            )
        mean_logit = (scale * (statistics.cosine_sum - cosine) + unbiased) / num_classes
        losses = losses + label_smoothing * (target - mean_logit)
    return losses


def predicted_classes(statistics: SoftmaxStats, labels: Tensor) -> Tensor:
    """Return the class of the largest cosine without margin, int64, shape (N,); the first of equal ones."""
    own, other = statistics.target_cosine.detach(), statistics.best_cosine
    is_own = (own > other) | ((own == other) & (labels < statistics.best_class))
    return torch.where(is_own, labels, statistics.best_class)
