"""Streamed logsumexp of similarities: the denominators of contrastive losses in linear memory."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional, Union

import torch
from torch import Tensor

from ..full_precision import outside_autocast
from ..product_precision import add_product_, multiply, rounded

__all__ = ['streamed_logsumexp']

# Cosines lie in [-1, 1]. Down to this temperature exp(cosine / temperature) of float32 neither overflows in a sum nor
# falls below the normal numbers, so that no maximum has to be subtracted first and one exponential serves both anchors.
_LOWEST_PLAIN_TEMPERATURE = 0.02
# So many anchors are one block (1 MiB), which is kept for the backward pass.
_ONE_BLOCK = 512


def streamed_logsumexp(
    anchors: Tensor,
    temperature: Union[float, Tensor],
    others: Sequence[Tensor] = (),
    classes: Optional[Tensor] = None,
    other_classes: Sequence[Tensor] = (),
    block: Optional[int] = None,
    precision: str = 'float32',
) -> tuple[Tensor, Optional[Tensor]]:
    r"""Return for each anchor i :math:`\log \sum_{j \ne i} e^{z_i \cdot z_j / \tau}` over all anchors and ``others``.

    The similarities are never held together: blocks of them are made, used and dropped, in the forward and again in
    the backward pass, so memory is linear in the number of rows. Those between anchors are symmetric: only the blocks
    on and above the diagonal are made, and each serves its rows and its columns. The gradient is exact, for all rows
    and for the temperature. It cannot be differentiated twice.

    Args:
        anchors (Tensor): L2-normalized embeddings, shape (A, D), float32 or float64.
        temperature (float | Tensor): :math:`\tau > 0`.
        others (Sequence[Tensor]): More of them that are not anchors, shape (M, D) each; with gradients where they need
            some. Defaults to none.
        classes (Tensor, optional): Integers, shape (A,): return the sums over the anchor's class alone, too.
        other_classes (Sequence[Tensor]): With ``classes``, those of the others, shape (M,) each.
        block (int, optional): Rows and columns of a block. Defaults to None: 384 on a CPU of few threads (0.6 MiB),
            more on what computes faster.
        precision (str): Of the products, one of ``PRODUCT_PRECISIONS``; sums and exponentials keep the dtype of the
            anchors. Defaults to 'float32'.

    Returns:
        tuple[Tensor, Optional[Tensor]]: The logarithms, shape (A,), and, with ``classes``, those of the sums over the
        rows of the anchor's class; the lowest finite number where there is no other row to add up.

    Example:
        >>> anchors = torch.eye(3)
        >>> log_sums, _ = streamed_logsumexp(anchors, 0.5)
        >>> log_sums.exp()
        tensor([2., 2., 2.])
        >>> _, log_sums_of_class = streamed_logsumexp(anchors, 0.5, classes=torch.tensor([0, 1, 0]))
        >>> log_sums_of_class.exp()
        tensor([1., 0., 1.])
    """
    plan = _Plan(
        side=_block_side(anchors) if block is None else block,
        plain=_is_plain(temperature),
        classes=classes,
        other_classes=tuple(other_classes),
        precision=precision,
    )
    log_sums, of_class = _LogSums.apply(anchors, temperature, plan, *others)
    return log_sums, of_class if classes is not None else None


class _Plan(NamedTuple):
    side: int
    plain: bool
    classes: Optional[Tensor]
    other_classes: tuple[Tensor, ...]
    precision: str


class _Block(NamedTuple):
    """Similarities of some anchors (rows) to some anchors or others (columns)."""

    rows: slice
    columns: slice
    similarity: Tensor
    is_own: bool  # on the diagonal: the anchors against themselves
    same_class: Optional[Tensor]


def _is_plain(temperature: Union[float, Tensor]) -> bool:
    if isinstance(temperature, Tensor):
        if temperature.device.type != 'cpu':  # not waited for
            return False
        temperature = temperature.item()
    return temperature >= _LOWEST_PLAIN_TEMPERATURE


def _block_side(anchors: Tensor) -> int:
    if anchors.device.type != 'cpu':
        return 4096
    if len(anchors) <= _ONE_BLOCK:
        return _ONE_BLOCK
    return 384 if torch.get_num_threads() <= 4 else 1024  # half of one core's second cache, measured


def _blocks(
    anchors: Tensor, temperature: Union[float, Tensor], other: Optional[Tensor], plan: _Plan, classes: Optional[Tensor]
) -> Iterator[_Block]:
    """Yield the blocks of anchors against ``other``, with its classes; None: against themselves, upper half only."""
    columns_of = anchors if other is None else other
    for row in range(0, len(anchors), plan.side):
        rows = slice(row, row + plan.side)
        scaled = rounded(anchors[rows] / temperature, plan.precision)
        for column in range(row if other is None else 0, len(columns_of), plan.side):
            columns = slice(column, column + plan.side)
            is_own = other is None and row == column
            same_class = None
            if classes is not None and plan.classes is not None:
                same_class = plan.classes[rows].unsqueeze(1) == classes[columns]
                if is_own:
                    same_class.fill_diagonal_(False)
            similarity = multiply(scaled, rounded(columns_of[columns], plan.precision).t(), plan.precision)
            yield _Block(rows, columns, similarity, is_own, same_class)


class _Totals:
    """Row sums of exponentials: the sums themselves if ``plain``, else their logarithms, for any temperature."""

    def __init__(self, anchors: Tensor, plain: bool) -> None:
        self.plain = plain
        self.values = anchors.new_full((len(anchors),), 0.0 if plain else -math.inf)

    def add(self, entries: Tensor, block: _Block, symmetric: bool) -> None:
        """Add a block, of exponentials if plain, else of similarities, to its rows and, if symmetric, its columns."""
        self._add(block.rows, entries, 1)
        if symmetric and not block.is_own:
            self._add(block.columns, entries, 0)

    def _add(self, rows: slice, entries: Tensor, dim: int) -> None:
        values = self.values[rows]
        if self.plain:
            values += entries.sum(dim)
        else:
            torch.logaddexp(values, entries.logsumexp(dim), out=values)

    def log(self) -> Tensor:
        """Return the logarithms; of empty sums the lowest finite number, since -inf would make gradients NaN."""
        logs = self.values.log_() if self.plain else self.values
        return logs.clamp_(min=torch.finfo(logs.dtype).min)


class _LogSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, anchors: Tensor, temperature: Union[float, Tensor], plan: _Plan, *others: Tensor
    ) -> tuple[Tensor, Optional[Tensor]]:
        totals = _Totals(anchors, plan.plain)
        of_class = None if plan.classes is None else _Totals(anchors, plan.plain)
        only_block = None
        with outside_autocast(anchors):
            for other, classes in _parts(others, plan):
                for block in _blocks(anchors, temperature, other, plan, classes):
                    entries = _entries(block, plan.plain)
                    totals.add(entries, block, other is None)
                    if of_class is not None:
                        of_class.add(_entries_of_class(entries, block, plan.plain), block, other is None)
                    if len(anchors) <= plan.side and not others:
                        only_block = entries
        results = totals.log(), None if of_class is None else of_class.log()
        ctx.plan, ctx.temperature = plan, None if isinstance(temperature, Tensor) else temperature
        # A batch of one block is kept: making it again would cost more time than it saves memory.
        ctx.save_for_backward(anchors, temperature if ctx.temperature is None else None, only_block, *results, *others)
        return results

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_of_class: Optional[Tensor]) -> tuple[Optional[Tensor], ...]:
        with torch.no_grad():
            found = _LogSums._gradients(ctx, grad, grad_of_class)
        if not torch.is_grad_enabled():
            return found
        # With create_graph; once_differentiable would not see that the anchors themselves need a gradient.
        return tuple(None if tensor is None else _OnlyOnce.apply(tensor, ctx.saved_tensors[0]) for tensor in found)

    @staticmethod
    def _gradients(ctx: Any, grad: Tensor, grad_of_class: Optional[Tensor]) -> tuple[Optional[Tensor], ...]:
        anchors, temperature, only_block, log_sums, of_class, *others = ctx.saved_tensors
        temperature = ctx.temperature if temperature is None else temperature
        plan = ctx.plan
        found = torch.zeros_like(anchors)
        found_others = [
            torch.zeros_like(other) if needed else None
            for other, needed in zip(others, ctx.needs_input_grad[3:], strict=True)
        ]
        symmetric_share: Union[float, Tensor] = 0.0
        with outside_autocast(anchors):
            weights = [_Weights(grad, log_sums, plan.plain)]
            if grad_of_class is not None and of_class is not None:
                weights.append(_Weights(grad_of_class, of_class, plan.plain))
            for (other, classes), found_other in zip(_parts(others, plan), [None, *found_others], strict=True):
                for block in (
                    _blocks(anchors, temperature, other, plan, classes)
                    if only_block is None
                    else (_only_block(anchors, only_block, plan),)
                ):
                    entries = _entries(block, plan.plain) if only_block is None else block.similarity
                    pull = _pull(entries, block, weights, other is None)
                    _pull_rows(found, anchors, block, rounded(pull, plan.precision), other, found_other, plan.precision)
                if other is None:
                    symmetric_share = (found * anchors).sum() / 2  # each similarity counts for both of its anchors
            grad_temperature = None
            if ctx.needs_input_grad[1]:
                # Similarities are z z' / tau, so the derivative to tau follows from those to z.
                rest = (found * anchors).sum() - 2 * symmetric_share
                grad_temperature = (-(symmetric_share + rest) / temperature**2).to(temperature.dtype)
            for tensor in (found, *found_others):
                if tensor is not None:
                    tensor /= temperature
        return found, grad_temperature, None, *found_others


class _OnlyOnce(torch.autograd.Function):
    """Raise an error when the gradient is differentiated again, which would give a wrong zero."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, of: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> None:
        raise RuntimeError(
            'streamed_logsumexp: expected a first derivative, got a request for the second, which the streamed form '
            'does not have. Use supervised_contrast(..., streamed=False) or SupConLoss(streamed=False).'
        )


def _parts(others: Sequence[Tensor], plan: _Plan) -> Iterator[tuple[Optional[Tensor], Optional[Tensor]]]:
    """Yield the contrasts and their classes: None for the anchors themselves, then the others."""
    yield None, plan.classes
    classes = plan.other_classes if plan.classes is not None else (None,) * len(others)
    yield from zip(others, classes, strict=True)


def _only_block(anchors: Tensor, entries: Tensor, plan: _Plan) -> _Block:
    everything = slice(0, len(anchors))
    same_class = None
    if plan.classes is not None:
        same_class = (plan.classes.unsqueeze(1) == plan.classes).fill_diagonal_(False)
    return _Block(everything, everything, entries, True, same_class)


def _entries(block: _Block, plain: bool) -> Tensor:
    """Return exponentials (plain) or similarities, without the anchor itself."""
    entries = block.similarity.exp_() if plain else block.similarity
    return entries.fill_diagonal_(0.0 if plain else -math.inf) if block.is_own else entries


def _entries_of_class(entries: Tensor, block: _Block, plain: bool) -> Tensor:
    """Return the entries between rows of one class; the others are masked."""
    return entries if block.same_class is None else entries.masked_fill(~block.same_class, 0.0 if plain else -math.inf)


class _Weights:
    """The gradient of a similarity: the anchor's incoming gradient times the similarity's share of the sum."""

    def __init__(self, grad: Tensor, log_sums: Tensor, plain: bool) -> None:
        self.plain = plain
        self.grad, self.log_sums = grad, log_sums
        # An anchor that is left out, or that has nothing to add up, has no share, rather than 0 * inf.
        self.by_sum = torch.where(grad == 0, 0.0, grad * (-log_sums).exp()) if plain else grad

    def of(self, entries: Tensor, block: _Block, symmetric: bool) -> Tensor:
        """Return the gradient of each entry of a block; an entry that serves two anchors gets both."""
        rows = self.by_sum[block.rows].unsqueeze(1)
        if self.plain:
            return (rows + self.by_sum[block.columns]).mul_(entries) if symmetric else entries * rows
        found = (entries - self.log_sums[block.rows].unsqueeze(1)).exp_().mul_(rows)
        if symmetric:
            found += (entries - self.log_sums[block.columns]).exp_().mul_(self.by_sum[block.columns])
        return found


def _pull(entries: Tensor, block: _Block, weights: Sequence[_Weights], symmetric: bool) -> Tensor:
    found = weights[0].of(entries, block, symmetric)
    if len(weights) > 1:
        found += weights[1].of(_entries_of_class(entries, block, weights[1].plain), block, symmetric)
    return found


def _pull_rows(
    found: Tensor,
    anchors: Tensor,
    block: _Block,
    pull: Tensor,
    other: Optional[Tensor],
    found_other: Optional[Tensor],
    precision: str,
) -> None:
    """Add the gradient from a block to its rows and, if they need it, its columns; scaled by the temperature."""
    columns = rounded((anchors if other is None else other)[block.columns], precision)
    add_product_(found[block.rows], pull, columns, precision)
    of_columns = found_other if other is not None else None if block.is_own else found
    if of_columns is not None:
        add_product_(of_columns[block.columns], pull.t(), rounded(anchors[block.rows], precision), precision)
