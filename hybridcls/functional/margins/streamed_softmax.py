"""Streaming softmax over classes in O(N + C) memory."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hybridcls.checks import check_choice, check_number
from hybridcls.renames import keeps_old_spellings

from ..full_precision import at_least_float32, outside_autocast
from ..l2_normalize import inverse_norms
from ..product_precision import PRODUCT_PRECISIONS, add_product_, is_exact, multiply, rounded
from .class_blocks import ClassBlocks
from .kernel_softmax import KernelSoftmax, kernels_work

__all__ = ['SoftmaxStats', 'softmax_stats', 'merge_softmax_stats']

# Blocks that stay in the cache of a CPU; a GPU wants few large launches.
_MEMORY = dict(cpu=4 * 2**20)
_MEMORY_OF_DEVICES = 128 * 2**20


class SoftmaxStats(NamedTuple):
    """Streaming softmax statistics of N embeddings over a set of classes; "others" are all but the target class.

    Args:
        target_cosine (Tensor): Cosine to the target class, shape (N,), not clipped; 0 if that class is not in the set.
        log_sum_exp (Tensor): Of ``scale * cosine + logit_bias`` over the others, shape (N,). If there are none it
            is finite still, but below all other numbers (-8e37 in float32), so that no infinity meets another one.
        cosine_sum (Tensor, optional): Sum of the cosines over the whole set with the target class, shape (N,), with
            ``logit_bias / scale`` where there is one. None if it was not asked for.
        best_cosine (Tensor): Largest cosine of the others, shape (N,), without gradient, not clipped; if there are
            none, below all cosines.
        best_class (Tensor): Its class, int64, shape (N,); the first one of equals.

    The first three carry gradients; all are float32, or float64.
    """

    target_cosine: Tensor
    log_sum_exp: Tensor
    cosine_sum: Optional[Tensor]
    best_cosine: Tensor
    best_class: Tensor


@torch.compiler.disable
@keeps_old_spellings
def softmax_stats(
    units: Tensor,
    class_weights: Tensor,
    labels: Tensor,
    scale: float = 64.0,
    cosine_clip: Optional[float] = None,
    with_sum: bool = False,
    num_subcenters: int = 1,
    memory: Optional[int] = None,
    chosen: Optional[Tensor] = None,
    logit_bias: Optional[Tensor] = None,
    precision: str = 'float32',
) -> SoftmaxStats:
    r"""Return streaming softmax statistics: visit the classes in blocks, and keep N numbers of each kind.

    The N x C cosines never exist, neither here nor in the backward pass, which computes each block again and writes
    the gradient of its class weights in place. So beyond the gradients themselves the memory is that of the blocks,
    of one number a class weight, and of a few N x D and N tensors. Everything but the products (``precision``) is
    computed in float32 (float64 for float64 inputs) outside of autocast. There is no second derivative.

    Any loss that is a function of these numbers and of the N target cosines gets its exact gradient from autograd, with
    whatever margin. The statistics of several sets of classes give those of their union
    (:func:`merge_softmax_stats`), in values and in gradients, wherever the sets are.

    Args:
        units (Tensor): L2-normalized embeddings, shape (N, D).
        class_weights (Tensor): Class weights of any norm and floating dtype, shape (C * K, D), those of a class
            together.
        labels (Tensor): Target classes, int64, shape (N,); outside [0, C): the target class is not in this set.
        scale (float): s, > 0. Defaults to 64.
        cosine_clip (float, optional): Keep the cosines in the sums this far from +-1, without gradient beyond.
        with_sum (bool): Whether to return ``cosine_sum``. Defaults to False.
        num_subcenters (int): K; the cosine of a class is the largest of its K. Defaults to 1.
        memory (int, optional): Bytes for the blocks. Defaults to None: 4 MiB on a CPU, 128 MiB elsewhere.
        chosen (Tensor, optional): Rows of ``class_weights`` that make up the set, int64, shape (C * K,), each once:
            C is then the number of the chosen classes, and labels and ``best_class`` count among them. The others get
            the gradient zero. Defaults to None: all.
        logit_bias (Tensor, optional): What is added to ``scale * cosine`` of each class of the set in the sums, shape
            (C,), without gradient; the best class is that of the cosines. Defaults to None: nothing.
        precision (str): Of the products of embeddings with class weights and with gradients: 'float32'; 'tf32' on CUDA
            (elsewhere float32); 'bfloat16', on a CPU by rounding, which is no faster. Sums, norms, exponentials and the
            cosines to the target classes are float32 in all; float64 inputs stay float64. Defaults to 'float32'.

    Returns:
        SoftmaxStats: Of each embedding.

    Raises:
        ValueError, TypeError: If the memory is not positive, there are not K weights a class, shapes do not fit, or the
            precision is unknown.

    Example:
        >>> statistics = softmax_stats(torch.tensor([[0., 1.]]), torch.eye(2), torch.tensor([0]), scale=2.)
        >>> statistics.target_cosine, statistics.log_sum_exp, statistics.best_class
        (tensor([0.]), tensor([2.]), tensor([1]))
    """
    num_class_weights = len(class_weights if chosen is None else chosen)
    if num_subcenters > 1 and num_class_weights % num_subcenters:
        raise ValueError(
            f'softmax_stats: expected num_subcenters={num_subcenters} weights for each class, got '
            f'{num_class_weights} weights, which it does not divide.'
        )
    if labels.shape != units.shape[:1] or class_weights.dim() != 2 or units.shape[1:] != class_weights.shape[1:]:
        raise ValueError(
            f'softmax_stats: expected embeddings (N, D), class weights (C * K, D) and labels (N,), got '
            f'{tuple(units.shape)}, {tuple(class_weights.shape)} and {tuple(labels.shape)}.'
        )
    if memory is None:
        memory = _MEMORY.get(units.device.type, _MEMORY_OF_DEVICES)
    check_number('softmax_stats', 'memory', memory, 1, integer=True, advice='It is a number of bytes.')
    check_choice('softmax_stats', 'precision', precision, PRODUCT_PRECISIONS)
    in_float32 = units.dtype != torch.float64
    form = KernelSoftmax if num_subcenters == 1 and in_float32 and kernels_work(units.device) else StreamedSoftmax
    statistics = SoftmaxStats(
        *form.apply(
            units,
            class_weights,
            labels,
            scale,
            cosine_clip,
            with_sum,
            num_subcenters,
            memory,
            chosen,
            logit_bias,
            precision,
        )
    )
    if statistics.cosine_sum is None or logit_bias is None:
        return statistics
    return statistics._replace(cosine_sum=statistics.cosine_sum + logit_bias.sum() / scale)


def merge_softmax_stats(parts: Sequence[SoftmaxStats], first_classes: Sequence[int]) -> SoftmaxStats:
    """Return the statistics of the union of sets of classes that have no class in common.

    Args:
        parts (Sequence[SoftmaxStats]): Of the same N embeddings.
        first_classes (Sequence[int]): What to add to the classes of each part, to tell them apart in the union.

    Returns:
        SoftmaxStats: As if all classes had been visited together.

    Example:
        >>> units, labels, class_weights = torch.tensor([[0.6, 0.8]]), torch.tensor([2]), torch.eye(3, 2)
        >>> whole = softmax_stats(units, class_weights, labels)
        >>> first = softmax_stats(units, class_weights[:1], labels)
        >>> parts = [first, softmax_stats(units, class_weights[1:], labels - 1)]
        >>> torch.equal(merge_softmax_stats(parts, [0, 1]).log_sum_exp, whole.log_sum_exp)
        True
    """
    targets, log_sums, sums, cosines, classes = zip(*parts, strict=True)
    moved = [own + first for own, first in zip(classes, first_classes, strict=True)]
    best_cosine, best_part = torch.stack(cosines).max(0)
    return SoftmaxStats(
        torch.stack(targets).sum(0),
        torch.stack(log_sums).logsumexp(0),
        None if sums[0] is None else torch.stack(sums).sum(0),
        best_cosine,
        torch.stack(moved).gather(0, best_part.unsqueeze(0)).squeeze(0),
    )


class StreamedSoftmax(torch.autograd.Function):
    """The statistics by operations of torch, on any device; :func:`softmax_stats` explains arguments and results."""

    @staticmethod
    def forward(
        ctx: Any,
        units: Tensor,
        class_weights: Tensor,
        labels: Tensor,
        scale: float,
        cosine_clip: Optional[float],
        with_sum: bool,
        num_subcenters: int,
        memory: int,
        chosen: Optional[Tensor],
        logit_bias: Optional[Tensor],
        precision: str,
    ) -> tuple[Optional[Tensor], ...]:
        """Return target cosine, log of the sum of the others, sum, best cosine and best class; each of shape (N,)."""
        num = len(units)
        units = at_least_float32(units)
        with outside_autocast(units):
            factors = units.new_empty(len(class_weights if chosen is None else chosen))
            blocks = ClassBlocks(units, class_weights, labels, num_subcenters, memory, chosen, factors, precision)
            largest, total = units.new_full((num,), torch.finfo(units.dtype).min / 4), units.new_zeros(num)
            largest_sum = largest  # of the logits with the bias
            target, best = units.new_zeros(num), torch.zeros_like(labels)
            linear = num_subcenters == 1 and cosine_clip is None
            sums = units.new_zeros(units.shape[1] if linear else num) if with_sum else None
            limit = None if cosine_clip is None else scale * (1 - cosine_clip)
            for first, rows in blocks:
                block = blocks.weights_of(rows)
                factors[rows] = inverse_norms(block).mul_(scale)
                logits = blocks.logits(rounded(block, precision), rows)
                if num_subcenters > 1:
                    logits = logits.unflatten(0, (-1, num_subcenters)).amax(1)
                if sums is not None:
                    if linear:
                        sums.addmv_(block.t(), factors[rows])
                    else:
                        sums += (logits if limit is None else logits.clamp(-limit, limit)).sum(0)
                own, here = blocks.own(first, len(logits))
                found = logits.gather(0, own)
                target = torch.where(here, found, target).squeeze(0)
                logits.scatter_(0, own, found.masked_fill(here, -math.inf))
                block_best, block_class = logits.max(0)
                best = torch.where(block_best > largest, block_class + first, best)
                if limit is not None:
                    found.clamp_(-limit, limit)
                    logits.clamp_(-limit, limit).scatter_(0, own, found.masked_fill(here, -math.inf))
                largest = torch.maximum(largest, block_best)
                before, largest_sum = largest_sum, largest
                if logit_bias is not None:
                    logits += logit_bias[first : first + len(logits)].to(logits.dtype).unsqueeze(1)
                    largest_sum = torch.maximum(before, logits.amax(0))
                total = total * (before - largest_sum).exp_() + logits.sub_(largest_sum).exp_().sum(0)
            if sums is not None:
                sums /= scale
            if not is_exact(precision, units):
                target = scale * blocks.target_cosines()
            log_sum = largest_sum + total.clamp(min=torch.finfo(units.dtype).tiny).log()
            ctx.save_for_backward(units, class_weights, labels, factors, log_sum, sums, chosen, logit_bias)
            ctx.settings = (scale, limit, linear, num_subcenters, memory, precision)
            cosine_sum = units @ sums if sums is not None and linear else sums
            best_cosine = largest / scale
        ctx.mark_non_differentiable(best_cosine, best)
        return target / scale, log_sum, cosine_sum, best_cosine, best

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_target: Tensor, grad_log_sum: Tensor, grad_sum: Optional[Tensor], *unused: Any
    ) -> tuple[Optional[Tensor], ...]:
        """Return the gradients of embeddings and class weights."""
        # With A the gradient of the cosines, class by embedding, v = w / |w| a unit class weight and u an embedding:
        #   du = sum_j A v,    dw = (sum_n A u - v sum_n A cos) / |w|
        # Of the others A = scale * g * exp(logit - log_sum). The factor goes into the exponent, and its sign into the
        # embeddings, which saves a visit of each block. What a row of the sum adds is the same in all rows of A.
        units, class_weights, labels, factors, log_sum, sums, chosen, logit_bias = ctx.saved_tensors
        scale, limit, linear, num_subcenters, memory, precision = ctx.settings
        with outside_autocast(units):
            blocks = ClassBlocks(units, class_weights, labels, num_subcenters, memory, chosen, factors, precision)
            sign = torch.where(grad_log_sum < 0, -1.0, 1.0).to(units.dtype)
            shift = log_sum - (scale * grad_log_sum.abs()).log()
            signed_units = rounded(sign.unsqueeze(1) * units, precision)
            own_grad = sign * grad_target
            to_units = torch.zeros_like(units) if ctx.needs_input_grad[0] else None
            to_weights = blocks.new_gradient() if ctx.needs_input_grad[1] else None
            alike = None if grad_sum is None or not linear else grad_sum @ units
            buffer = units.new_empty((blocks.size, len(units)))
            for first, rows in blocks:
                block = blocks.weights_of(rows)
                operand = rounded(block, precision)
                logits = blocks.logits(operand, rows)
                if num_subcenters > 1:
                    values, nearest = logits.unflatten(0, (-1, num_subcenters)).max(1, keepdim=True)
                    values = values.squeeze(1)
                else:
                    values = logits
                grad = torch.sub(values, shift, out=buffer[: len(values)])
                if logit_bias is not None:
                    grad += logit_bias[first : first + len(grad)].to(grad.dtype).unsqueeze(1)
                grad.exp_()
                own, here = blocks.own(first, len(grad))
                grad.scatter_(0, own, grad.gather(0, own).masked_fill_(here, 0))
                if grad_sum is not None and not linear:
                    grad += sign * grad_sum
                if limit is not None:
                    grad.masked_fill_(values > limit, 0).masked_fill_(values < -limit, 0)
                grad.scatter_(0, own, grad.gather(0, own).add_(torch.where(here, own_grad, 0)))
                if num_subcenters > 1:
                    grad = (
                        torch.zeros_like(logits)
                        .unflatten(0, (-1, num_subcenters))
                        .scatter_(1, nearest, grad.unsqueeze(1))
                        .flatten(0, 1)
                    )
                inverse = factors[rows] / scale
                along = logits.mul_(grad) @ (sign / scale)  # how far the gradient of v points along v
                grad = rounded(grad.mul_(inverse.unsqueeze(1)), precision)
                if to_units is not None:
                    add_product_(to_units, grad.t(), operand, precision)
                if to_weights is None:
                    continue
                out = to_weights[rows] if blocks.in_place else torch.empty_like(block)
                multiply(grad, signed_units, precision, out=out)
                if alike is not None:
                    along.addcmul_(inverse, block @ alike)
                    out.addr_(inverse, alike)
                out.addcmul_(block, (along * inverse.square()).unsqueeze(1), value=-1)
                if not blocks.in_place:
                    blocks.write(to_weights, rows, out)
            if to_units is not None:
                to_units *= sign.unsqueeze(1)
                if alike is not None and grad_sum is not None:
                    to_units += torch.outer(grad_sum, sums)
        return (to_units, to_weights, *[None] * 9)
