"""The supervised contrastive loss of each anchor from a matrix of all similarities."""

from typing import Optional, Union

import torch
from torch import Tensor

from ..full_precision import outside_autocast
from ..product_precision import product

__all__ = ['dense_supcon']


def dense_supcon(
    anchors: Tensor,
    contrasts: Tensor,
    anchor_labels: Optional[Tensor],
    contrast_labels: Optional[Tensor],
    own_rows: Optional[Tensor],
    temperature: Union[float, Tensor],
    form: str = 'out',
    mask: Optional[Tensor] = None,
    precision: str = 'float32',
) -> Tensor:
    """Return the loss of each anchor against all other embeddings; 0 for an anchor without positives.

    This is the dense form: it holds several A x N matrices, and can be differentiated twice.

    Args:
        anchors (Tensor): L2-normalized embeddings, shape (A, D), float32 or float64.
        contrasts (Tensor): L2-normalized embeddings, shape (N, D), the anchors among them, or references
            without them.
        anchor_labels (Tensor, optional): Shape (A,); None with a mask.
        contrast_labels (Tensor, optional): Shape (N,); None with a mask.
        own_rows (Tensor, optional): Where each anchor stands among the contrasts, shape (A,). None: nowhere.
        temperature (float | Tensor): Positive.
        form (str): 'out' or 'in', see :func:`supervised_contrast`.
        mask (Tensor, optional): Instead of labels, how much each contrast is a positive of each anchor, shape (A, N),
            >= 0, bool or floating: means over positives become weighted ones. What an anchor is to itself is ignored.
            Defaults to None.
        precision (str): Of the similarities and their gradients, see :func:`supervised_contrast`. Defaults to
            'float32'.

    Returns:
        Tensor: Shape (A,), float32 or float64.
    """
    with outside_autocast(anchors):
        similarity = product(anchors / temperature, contrasts.t(), precision)
        if mask is None:
            positive = torch.eq(anchor_labels.unsqueeze(1), contrast_labels)  # type: ignore[union-attr, arg-type]
        else:
            positive = mask > 0
        # The lowest finite number, not -inf: a row without any other embedding would get NaN gradients.
        lowest = torch.finfo(similarity.dtype).min
        if own_rows is not None:
            own = own_rows.unsqueeze(1) == torch.arange(len(contrasts), device=contrasts.device)
            positive = positive & ~own
            similarity = similarity.masked_fill(own, lowest)
        log_share = similarity.log_softmax(1)
        weights = positive if mask is None else mask.to(similarity.dtype) * positive
        num_positives = weights.sum(1).to(similarity.dtype)
        per_positive = num_positives.masked_fill(num_positives == 0, 1)
        if form == 'out':
            if mask is not None:
                log_share = log_share * weights
            attraction = log_share.masked_fill(~positive, 0).sum(1) / per_positive
        else:
            if mask is not None:
                log_share = log_share + weights.masked_fill(~positive, 1).log()
            attraction = log_share.masked_fill(~positive, lowest).logsumexp(1) - per_positive.log()
        return (-attraction).masked_fill(num_positives == 0, 0)
