"""Logsumexp of similarities by Triton's kernels of the margin heads: equivalent to the streamed form."""

from collections.abc import Sequence
from typing import Union

import torch
from torch import Tensor

from ..full_precision import outside_autocast
from ..margins.kernel_softmax import kernels_work
from ..margins.streamed_softmax import softmax_stats

__all__ = ['kernel_logsumexp', 'kernels_serve']


def kernels_serve(embeddings: Tensor) -> bool:
    """Return whether :func:`kernel_logsumexp` runs on kernels for such embeddings: on CUDA with Triton, not in float64.

    Args:
        embeddings (Tensor): Its device and dtype count.
    """
    return embeddings.dtype != torch.float64 and kernels_work(embeddings.device)


def kernel_logsumexp(
    anchors: Tensor, temperature: Union[float, Tensor], others: Sequence[Tensor] = (), precision: str = 'float32'
) -> Tensor:
    r"""Return the first result of :func:`streamed_logsumexp`, by the kernels of margin heads.

    The sum of an anchor is that of a head whose class weights are the embeddings, without the target class, which is
    the anchor itself. So the kernels serve both; where they do not work, the head's streamed form does, which costs
    more than :func:`streamed_logsumexp`. Each similarity of two anchors is computed twice, once for each of them.

    A head normalizes its class weights again, so the part of a gradient along an embedding may be another one than that
    of the streamed form. :func:`l2_normalize` drops this part of both.

    Args:
        anchors (Tensor): L2-normalized embeddings, shape (A, D), float32 or float64.
        temperature (float | Tensor): :math:`\tau > 0`; may carry a gradient.
        others (Sequence[Tensor]): More of them that are not anchors, shape (M, D) each. Defaults to none.
        precision (str): Of the products, one of ``PRODUCT_PRECISIONS``. Defaults to 'float32'.

    Returns:
        Tensor: Shape (A,); of an empty sum a finite number below all others. It cannot be differentiated twice.

    Example:
        >>> kernel_logsumexp(torch.eye(3), 0.5).exp()
        tensor([2., 2., 2.])
    """
    with outside_autocast(anchors):
        # The temperature is a factor of the rows, not the kernels' scale: autograd has its gradient without a look at
        # its value, which would wait for the device.
        scaled = anchors / temperature
        themselves = torch.arange(len(anchors), device=anchors.device)
        nowhere = torch.full_like(themselves, -1)
        log_sums = [
            softmax_stats(scaled, rows, own, 1.0, precision=precision).log_sum_exp
            for rows, own in [(anchors, themselves), *((other, nowhere) for other in others)]
        ]
        return log_sums[0] if len(log_sums) == 1 else torch.stack(log_sums).logsumexp(0)
