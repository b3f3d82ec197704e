"""The running statistics of AdaFace's embedding norms, over the norms of all processes."""

import torch
from torch import Tensor

from hybridcls.distributed import stack_of_processes
from hybridcls.functional import moved_norm_statistics, norm_moments


@torch.no_grad()
def update_norm_statistics(norms: Tensor, mean: Tensor, std: Tensor, t_alpha: float = 0.01) -> None:
    r"""Move the running mean and standard deviation of norms, in place, towards those of a batch.

    With several processes the batch is that of all of them together, and all of them get the same bits; every process
    must call this function. The formula stands at :func:`hybridcls.functional.moved_norm_statistics`.

    Args:
        norms (Tensor): Norms of the embeddings, shape (N,), any floating dtype.
        mean (Tensor): :math:`\mu`, shape (), changed in place.
        std (Tensor): :math:`\sigma`, shape (), changed in place.
        t_alpha (float): Weight of the new batch, in [0, 1]. Defaults to 0.01.

    Example:
        >>> mean, std = torch.tensor(20.), torch.tensor(100.)
        >>> update_norm_statistics(torch.tensor([10., 12., 14.]), mean, std, t_alpha=0.5)
        >>> mean, std
        (tensor(16.), tensor(51.))
    """
    new_mean, new_std = moved_norm_statistics(stack_of_processes(norm_moments(norms)), mean, std, t_alpha)
    mean.copy_(new_mean)
    std.copy_(new_std)
