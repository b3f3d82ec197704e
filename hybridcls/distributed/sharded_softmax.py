"""Margin softmax over class weights that are sharded over processes, all classes or a random part."""

from collections.abc import Callable
from typing import Any, Optional

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from hybridcls.functional.full_precision import outside_autocast
from hybridcls.functional.l2_normalize import l2_normalize
from hybridcls.functional.margins.class_sampling import sample_classes
from hybridcls.functional.margins.margin_softmax import predicted_classes, statistics_cross_entropy
from hybridcls.functional.margins.streamed_softmax import SoftmaxStats, merge_softmax_stats, softmax_stats
from hybridcls.functional.product_precision import product
from hybridcls.renames import keeps_old_spellings

from .drawn_rows import gather_drawn
from .gather import gather_rows, num_processes, row_counts
from .row_shard import RowShard

__all__ = ['sharded_cosine_logits', 'sharded_margin_cross_entropy']


@keeps_old_spellings
def sharded_margin_cross_entropy(
    embeddings: Tensor,
    class_weights: Tensor,
    labels: Tensor,
    margin: Callable[[Tensor, Tensor], Tensor],
    shard: RowShard,
    scale: float = 64.0,
    label_smoothing: float = 0.0,
    cosine_clip: Optional[float] = None,
    num_subcenters: int = 1,
    memory: Optional[int] = None,
    sample_rate: float = 1.0,
    logit_bias: Optional[Tensor] = None,
    sample_weights: Optional[Tensor] = None,
    precision: str = 'float32',
    row_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""Compute :func:`margin_cross_entropy` with the images and the classes divided among processes.

    Each process sees the embeddings of all, and takes the statistics of the classes it holds
    (:func:`softmax_stats`): a few numbers an image, which are sent to the process of the image and merged there.
    So logits of all classes exist nowhere, and what crosses processes are N x D embeddings, their gradients, and 5
    numbers for each image and process. Each process calls the margin for its own images.

    The loss of a process is its share of the mean over the images of all processes, times the number of processes:
    the mean of these losses, and the mean of the embeddings' gradients that ``DistributedDataParallel`` takes, are
    those of one process with the whole batch. The gradient of ``class_weights`` is already that of the whole batch and
    must not be averaged over processes. All processes must call this, and all must run the backward pass.

    With ``sample_rate`` < 1 each process takes a random part of its classes (:func:`sample_classes`): the softmax is
    one over the drawn classes of all processes, smoothing is shared by them, and the prediction is the best of
    them. The gradient of the others is zero, as in InsightFace's ``PartialFC_V2``.

    Args:
        embeddings (Tensor): Of the images of this process, shape (B, D), of any norm and floating dtype. B may differ.
        class_weights (Tensor): Of the classes of this process, shape (C_own * K, D), with ``row_gradient`` also
            (C_own, K, D); C_own may be 0.
        labels (Tensor): Target classes among all, int64 in [0, C), shape (B,).
        margin (Callable): See :func:`margin_cross_entropy`.
        shard (RowShard): Which classes this process has.
        scale, label_smoothing, cosine_clip, num_subcenters, memory: See :func:`margin_cross_entropy`.
        sample_rate (float): Share of its classes that a process takes into a step, in (0, 1]. Defaults to 1.
        logit_bias (Tensor, optional): See :func:`margin_cross_entropy`: of *all* classes, shape (C,). Defaults to None.
        sample_weights (Tensor, optional): See :func:`margin_cross_entropy`: of the images of this process.
        precision (str): See :func:`margin_cross_entropy`. Defaults to 'float32'.
        row_gradient (bool): With ``sample_rate`` < 1: the gradient of ``class_weights`` is a sparse tensor of the drawn
            classes, and no memory is taken for the others. Defaults to False: zeros stand for them.

    Returns:
        tuple[Tensor, Tensor]: The loss, a scalar; and the predicted classes of the own images, int64, shape (B,).

    Example:
        >>> loss, predicted = sharded_margin_cross_entropy(
        ...     torch.tensor([[2., 0.]]), torch.eye(2), torch.tensor([0]), lambda cosine, norm: cosine - 0.5,
        ...     RowShard.of_this_process(2), scale=2.)
        >>> bool(torch.isclose(loss, torch.tensor(-1.).exp().log1p())), predicted
        (True, tensor([0]))
    """
    with outside_autocast(embeddings):
        units, norms = l2_normalize(embeddings)
        gathered, counts = _gather(units)
        (all_labels,), _ = gather_rows(labels, counts=counts)
        own_labels = all_labels - shard.first
        classes: Optional[Tensor] = None
        if sample_rate < 1:
            classes, own_labels = sample_classes(own_labels, shard.size, sample_rate)
        own_bias = None
        if logit_bias is not None:
            own_bias = logit_bias[shard.first : shard.first + shard.size]
            own_bias = own_bias if classes is None else own_bias[classes]
        chosen = None if classes is None else _rows_of(classes, num_subcenters)
        if row_gradient:
            if classes is not None:
                class_weights, chosen = gather_drawn(class_weights, classes), None
            class_weights = class_weights.flatten(0, -2)
        own = softmax_stats(
            gathered,
            class_weights,
            own_labels,
            scale,
            cosine_clip,
            label_smoothing > 0,
            num_subcenters,
            memory,
            chosen,
            own_bias,
            precision,
        )
        if classes is not None and len(classes):
            own = own._replace(best_class=classes[own.best_class])
        own = own._replace(best_class=own.best_class + shard.first)
        statistics, drawn = _exchange(own, shard.size if classes is None else len(classes), counts)
        num_classes = shard.total if classes is None else drawn
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
        return losses.sum() * (len(counts) / max(1, sum(counts))), predicted_classes(statistics, labels)


@keeps_old_spellings
def sharded_cosine_logits(
    embeddings: Tensor, class_weights: Tensor, shard: RowShard, num_subcenters: int = 1
) -> Tensor:
    """Compute :func:`cosine_logits` with the embeddings and the classes divided among processes.

    Each process computes the cosines of all processes' embeddings to the classes it holds and sends them back. All
    processes must call this; shapes alone (tensors on the meta device) need no other process.

    Args:
        embeddings (Tensor): Of this process, shape (B, D).
        class_weights (Tensor): Of the classes of this process, shape (C_own * K, D).
        shard (RowShard): Which classes this process has.
        num_subcenters (int): K. Defaults to 1.

    Returns:
        Tensor: Shape (B, C), float32 or float64. Gradients as in :func:`sharded_margin_cross_entropy`.

    Example:
        >>> sharded_cosine_logits(torch.tensor([[2., 0.]]), torch.eye(2), RowShard.of_this_process(2))
        tensor([[1., 0.]])
    """
    with outside_autocast(embeddings):
        units = l2_normalize(embeddings)[0]
        if units.is_meta:
            return units.new_empty(len(units), shard.total)
        gathered, counts = _gather(units)
        cosines = product(gathered, l2_normalize(class_weights)[0].t())
        if num_subcenters > 1:  # not -1, which an empty share leaves open
            cosines = cosines.unflatten(1, (shard.size, num_subcenters)).amax(2)
        return _ToOwners.apply(cosines, counts, [other.size for other in shard.of_all_processes()])


def _gather(units: Tensor) -> tuple[Tensor, list[int]]:
    """Gather L2-normalized embeddings of all processes, with a gradient scaled for DDP; return row counts, too."""
    counts = row_counts(units)
    (gathered,), _ = gather_rows(_Scaled.apply(units, num_processes()), counts=counts)
    return gathered, counts


def _exchange(own: SoftmaxStats, num_classes: int, counts: list[int]) -> tuple[SoftmaxStats, Tensor]:
    """Send the statistics of each image back to the process that it belongs to.

    Returns those of the own images over all classes, and among how many; the latter once an image, on the device.
    """
    parts = [own.target_cosine, own.log_sum_exp, own.best_cosine]
    if own.cosine_sum is not None:
        parts.append(own.cosine_sum)
    width, world = len(parts), len(counts)
    numbers = _ToOwners.apply(torch.stack(parts, 1), counts, [width] * world).unflatten(1, (world, width))
    whole = torch.stack([own.best_class, torch.full_like(own.best_class, num_classes)], 1)
    whole = _ToOwners.apply(whole, counts, [2] * world).unflatten(1, (world, 2))
    found = [
        SoftmaxStats(
            numbers[:, rank, 0],
            numbers[:, rank, 1],
            numbers[:, rank, 3] if width == 4 else None,
            numbers[:, rank, 2].detach(),
            whole[:, rank, 0],
        )
        for rank in range(world)
    ]
    return merge_softmax_stats(found, [0] * world), whole[:, :, 1].sum(1)


def _rows_of(classes: Tensor, num_subcenters: int) -> Tensor:
    if num_subcenters == 1:
        return classes
    return (classes.unsqueeze(1) * num_subcenters + torch.arange(num_subcenters, device=classes.device)).flatten()


class _Scaled(torch.autograd.Function):
    """Multiply the gradient of a tensor by ``factor``."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.factor, None


class _ToOwners(torch.autograd.Function):
    """Send (N, width) numbers about the images of all processes to their owners, and receive those of the own images.

    Returns (B, sum of widths), side by side by rank. Gradients go the way back, divided by the number of processes:
    what arrives are gradients of losses that are each that much too large, so that a mean over processes is right.
    """

    @staticmethod
    def forward(ctx: Any, numbers: Tensor, counts: list[int], widths: list[int]) -> Tensor:
        ctx.counts, ctx.widths = counts, widths
        if len(counts) == 1:
            return numbers.view_as(numbers)
        rank = dist.get_rank()
        own = counts[rank]
        parts = numbers.new_empty(own * sum(widths))
        dist.all_to_all_single(
            parts,
            numbers.detach().contiguous().flatten(),
            [own * width for width in widths],
            [count * widths[rank] for count in counts],
        )
        return torch.cat(
            [
                part.view(own, -1) if own else part.view(0, width)
                for part, width in zip(parts.split([own * w for w in widths]), widths, strict=True)
            ],
            1,
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        counts, widths = ctx.counts, ctx.widths
        if len(counts) == 1:
            return grad, None, None
        rank = dist.get_rank()
        own = counts[rank]
        back = grad.new_empty(sum(counts) * widths[rank])
        parts = torch.cat([part.flatten() for part in grad.split(widths, 1)])
        dist.all_to_all_single(back, parts, [count * widths[rank] for count in counts], [own * w for w in widths])
        return back.view(sum(counts), widths[rank]).div_(len(counts)), None, None
