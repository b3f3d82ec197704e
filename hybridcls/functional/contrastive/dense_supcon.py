"""The supervised contrastive loss of each anchor from a matrix of all similarities."""

from typing import Union

import torch
from torch import Tensor

from ..full_precision import outside_autocast

__all__ = ['dense_supcon']


def dense_supcon(
    anchors: Tensor,
    contrasts: Tensor,
    anchor_labels: Tensor,
    contrast_labels: Tensor,
    own_rows: Tensor,
    temperature: Union[float, Tensor],
    form: str = 'out',
) -> Tensor:
    """Return the loss of each anchor against all contrasts but itself; 0 for an anchor without positives.

    This is the dense form: it holds several A x N matrices, and can be differentiated twice.

    Args:
        anchors (Tensor): L2-normalized embeddings, shape (A, D), float32 or float64.
        contrasts (Tensor): L2-normalized embeddings, shape (N, D), the anchors among them.
        anchor_labels (Tensor): Shape (A,).
        contrast_labels (Tensor): Shape (N,).
        own_rows (Tensor): Where each anchor stands among the contrasts, shape (A,).
        temperature (float | Tensor): Positive.
        form (str): 'out' or 'in', see :func:`supervised_contrast`.

    Returns:
        Tensor: Shape (A,), float32 or float64.
    """
    with outside_autocast(anchors):
        similarity = (anchors / temperature) @ contrasts.t()
        own = own_rows.unsqueeze(1) == torch.arange(len(contrasts), device=contrasts.device)
        positive = (anchor_labels.unsqueeze(1) == contrast_labels) & ~own
        num_positives = positive.sum(1)
        # The lowest finite number, not -inf: a row without any other embedding would get NaN gradients.
        lowest = torch.finfo(similarity.dtype).min
        log_share = similarity.masked_fill(own, lowest).log_softmax(1)
        if form == 'out':
            attraction = log_share.masked_fill(~positive, 0).sum(1) / num_positives.clamp(min=1)
        else:
            attraction = log_share.masked_fill(~positive, lowest).logsumexp(1) - num_positives.clamp(min=1).log()
        return (-attraction).masked_fill(num_positives == 0, 0)
