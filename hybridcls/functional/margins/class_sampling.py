"""Sample classes, among them all classes of the batch (Partial FC)."""

import torch
from torch import Tensor

__all__ = ['sample_classes']


def sample_classes(labels: Tensor, num_classes: int, rate: float) -> tuple[Tensor, Tensor]:
    r"""Draw classes for one step of `Partial FC <https://arxiv.org/abs/2203.15565>`_.

    All classes of ``labels`` are in, and others, drawn without replacement and each as likely as any other, fill up to
    ``int(rate * num_classes)``, at least 1. If the labels alone are more than that, there are no others: as in
    InsightFace's ``PartialFC_V2``. The draw comes from torch's generator of the device of ``labels``.

    Args:
        labels (Tensor): int64; those outside [0, num_classes) belong to no class here.
        num_classes (int): C.
        rate (float): In (0, 1].

    Returns:
        tuple[Tensor, Tensor]: The drawn classes in rising order, int64, shape (k,); and for each label its index among
        them, or -1 if its class is not here.

    Example:
        >>> classes, index = sample_classes(torch.tensor([7, 2, 7, 99, -1]), num_classes=10, rate=0.5)
        >>> len(classes), classes[index[:3]].tolist(), index[3:].tolist()
        (5, [7, 2, 7], [-1, -1])
    """
    if num_classes == 0:
        return labels.new_empty(0), torch.full_like(labels, -1)
    here = (labels >= 0) & (labels < num_classes)
    priority = torch.rand(num_classes, device=labels.device)  # below 1
    # A maximum, so that labels of other processes, moved to a class of this one, change nothing, and nothing waits.
    priority.scatter_reduce_(0, labels.clamp(0, num_classes - 1), torch.where(here, 2.0, 0.0), 'amax')
    least = min(num_classes, max(1, int(rate * num_classes)))
    number = max(least, int((priority == 2.0).sum()))
    classes = priority.topk(number, sorted=False).indices.sort().values
    index = torch.searchsorted(classes, labels.clamp(0, num_classes - 1))
    return classes, torch.where(here, index, -1)
