"""Cross entropy over scaled cosines, with a margin on the own class."""
from collections.abc import Callable
from typing import Optional

import torch.nn.functional as F
from torch import Tensor

from .full_precision import outside_autocast
from .unit_vectors import unit_rows

__all__ = ['cosine_logits', 'margin_cross_entropy']


def cosine_logits(embeddings: Tensor, centres: Tensor) -> Tensor:
    """Cosines between all embeddings and all class centres, in float32 whatever autocast is in force.

    Args:
        embeddings (Tensor): Shape (N, D), any length and floating dtype.
        centres (Tensor): Shape (C, D), likewise.

    Returns:
        Tensor: Shape (N, C), float32 or float64, within [-1, 1] up to rounding.

    Example:
        >>> import torch
        >>> cosine_logits(torch.tensor([[2., 0.]]), torch.tensor([[1., 0.], [0., 5.], [-3., 0.]]))
        tensor([[ 1.,  0., -1.]])
    """
    with outside_autocast(embeddings):
        return unit_rows(embeddings)[0] @ unit_rows(centres)[0].t()


def margin_cross_entropy(embeddings: Tensor,
                         centres: Tensor,
                         labels: Tensor,
                         margin: Callable[[Tensor, Tensor], Tensor],
                         scale: float = 64.,
                         label_smoothing: float = 0.,
                         cosine_clip: Optional[float] = None) -> tuple[Tensor, Tensor]:
    r"""Mean of :math:`-\log \frac{e^{s\,t_y}}{e^{s\,t_y} + \sum_{j \ne y} e^{s \cos\theta_j}}`, with t from ``margin``.

    ``margin`` sees no more than the N cosines of the own classes and the N lengths, so that how the softmax over the C
    classes is computed stays this function's own affair. This is the dense form: it holds N x C logits.

    Args:
        embeddings (Tensor): Shape (N, D), any length and floating dtype.
        centres (Tensor): Class centres, shape (C, D), any length and floating dtype.
        labels (Tensor): Own classes, int64 in [0, C), shape (N,).
        margin (Callable): From the own cosines, shape (N,), and the lengths of the embeddings, shape (N,), both
            float32 or float64, to the target logits before the scale, shape (N,).
        scale (float): s. Defaults to 64.
        label_smoothing (float): Share of the target given to all classes alike, in [0, 1). Defaults to 0.
        cosine_clip (float, optional): Keep all cosines this far from +-1, without gradient beyond (1e-3 in AdaFace's
            repository). Defaults to None.

    Returns:
        tuple[Tensor, Tensor]: The loss, a scalar, float32 or float64; and the predicted classes, int64, shape (N,),
        those of the largest cosine without margin.

    Example:
        >>> import torch
        >>> loss, predicted = margin_cross_entropy(
        ...     torch.tensor([[2., 0.]]), torch.eye(2), torch.tensor([0]), lambda cosine, norm: cosine - 0.5, scale=2.)
        >>> bool(torch.isclose(loss, torch.tensor(-1.).exp().log1p())), predicted
        (True, tensor([0]))
    """
    with outside_autocast(embeddings):
        units, lengths = unit_rows(embeddings)
        cosine = units @ unit_rows(centres)[0].t()
        predicted = cosine.detach().argmax(1)
        if cosine_clip is not None:
            cosine = cosine.clamp(-1 + cosine_clip, 1 - cosine_clip)
        own = labels.unsqueeze(1)
        target = margin(cosine.gather(1, own).squeeze(1), lengths)
        logits = scale * cosine.scatter(1, own, target.unsqueeze(1))
        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing), predicted
