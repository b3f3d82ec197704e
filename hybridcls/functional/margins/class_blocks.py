"""Class weights in blocks, for softmax sums that never store the logits of all classes."""

import math
from collections.abc import Iterator
from typing import Optional

import torch
from torch import Tensor

from ..l2_normalize import inverse_norms
from ..lazy_zeros import lazy_zeros
from ..product_precision import multiply, rounded

__all__ = ['ClassBlocks']


class ClassBlocks:
    """Blocks of classes, whose logits are computed on demand: one row per class, one column per embedding.

    Args:
        units (Tensor): L2-normalized embeddings, shape (N, D), float32 or float64.
        class_weights (Tensor): Shape (C * K, D).
        labels (Tensor): Shape (N,).
        num_subcenters (int): K.
        memory (int): Bytes for what a block needs.
        chosen (Tensor, optional): The rows of ``class_weights`` that make up the set. None: all.
        factors (Tensor): ``scale`` over the norm of each of these rows, shape (C * K,); to be filled before
            :meth:`logits` is called.
        precision (str): Of the products, one of ``PRODUCT_PRECISIONS``.
        buffers (int): How many matrices of logits a block needs at a time. Defaults to 2.
        multiple (int): All blocks but the last one have a multiple of so many classes. Defaults to 1.
        row_major (bool): Whether each block of class weights, and of their gradient, must be contiguous: a copy if
            ``class_weights`` is not. Defaults to False: any strides.
    """

    def __init__(
        self,
        units: Tensor,
        class_weights: Tensor,
        labels: Tensor,
        num_subcenters: int,
        memory: int,
        chosen: Optional[Tensor],
        factors: Tensor,
        precision: str = 'float32',
        buffers: int = 2,
        multiple: int = 1,
        row_major: bool = False,
    ) -> None:
        self.units, self.units_t = units, rounded(units, precision).t()
        self.class_weights, self.labels, self.precision = class_weights, labels, precision
        self.num_subcenters, self.chosen, self.factors = num_subcenters, chosen, factors
        self.num_classes = len(factors) // num_subcenters
        # Blocks are views, and so are their gradients.
        self.in_place = chosen is None and class_weights.dtype == units.dtype
        self.row_major = row_major
        if row_major and not class_weights.is_contiguous():
            self.in_place = False
        # The logits, and where blocks are not views, a block of class weights and one of their gradients.
        num, width = units.shape
        size = units.element_size() * (buffers * num + (0 if self.in_place else 2 * width))
        if self.units_t.data_ptr() != units.data_ptr():  # a rounded block and the rounded gradient of its logits
            size += self.units_t.element_size() * (num + width)
        if num_subcenters > 1:
            size += 2 * units.element_size() * num
        largest = max(1, memory // (max(1, size) * num_subcenters))
        count = math.ceil(self.num_classes / largest)
        self.size = math.ceil(self.num_classes / max(1, count) / multiple) * multiple
        self._buffer: Optional[Tensor] = None

    def __iter__(self) -> Iterator[tuple[int, slice]]:
        for first in range(0, self.num_classes, self.size or 1):
            last = min(first + self.size, self.num_classes)
            yield first, slice(first * self.num_subcenters, last * self.num_subcenters)

    def weights_of(self, rows: slice) -> Tensor:
        """Return a block of class weights, in the dtype of the embeddings."""
        block = (
            self.class_weights[rows] if self.chosen is None else self.class_weights.index_select(0, self.chosen[rows])
        )
        block = block.to(self.units.dtype)
        return block.contiguous() if self.row_major else block

    def new_gradient(self) -> Tensor:
        """Allocate the gradient that :meth:`write` fills."""
        return torch.empty_like(self.class_weights) if self.chosen is None else lazy_zeros(self.class_weights)

    def write(self, gradient: Tensor, rows: slice, block: Tensor) -> None:
        """Write the gradient of a block to that of all class weights."""
        if self.chosen is None:
            gradient[rows] = block
        else:
            gradient.index_copy_(0, self.chosen[rows], block.to(gradient.dtype))

    def logits(self, operand: Tensor, rows: slice) -> Tensor:
        """Return ``scale * cosine`` of a rounded block, shape (rows, N), in a buffer that the next call overwrites."""
        out = self.products(operand)
        return out.mul_(self.factors[rows].unsqueeze(1))  # cheaper than normalizing the block of weights

    def products(self, operand: Tensor) -> Tensor:
        """Return the inner products of a rounded block with the embeddings, in the buffer of :meth:`logits`."""
        if self._buffer is None:
            self._buffer = self.units.new_empty((self.size * self.num_subcenters, len(self.units)))
        return multiply(operand, self.units_t, self.precision, out=self._buffer[: len(operand)])

    def own(self, first: int, num_classes: int) -> tuple[Tensor, Tensor]:
        """Return the row of each target class in a block, shape (1, N), and whether it is in the block."""
        row = self.labels - first
        here = (row >= 0) & (row < num_classes)
        return torch.where(here, row, 0).unsqueeze(0), here.unsqueeze(0)

    def target_cosines(self) -> Tensor:
        """Return the cosines to the target classes without rounding, shape (N,); 0 if the set lacks the class.

        The loss of a sample that is learnt well hangs on this one number, which costs N products of rows.
        """
        if not self.num_classes:
            return self.units.new_zeros(len(self.units))
        row, here = self.own(0, self.num_classes)
        rows = row.t() * self.num_subcenters + torch.arange(self.num_subcenters, device=row.device)
        rows = (rows if self.chosen is None else self.chosen[rows]).flatten()
        weights = self.class_weights.index_select(0, rows).to(self.units.dtype)
        weights = weights.mul_(inverse_norms(weights).unsqueeze(1)).unflatten(0, (-1, self.num_subcenters))
        cosines = torch.linalg.vecdot(weights, self.units.unsqueeze(1)).amax(1)
        return torch.where(here.squeeze(0), cosines, 0)
