"""Streaming softmax over classes by Triton kernels on GPUs; equivalent to the streamed form."""

import functools
import math
import warnings
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from traceback import format_exception_only
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..full_precision import at_least_float32, outside_autocast
from ..l2_normalize import SHORTEST, inverse_norms
from ..product_precision import add_product_, multiply, rounded
from .class_blocks import ClassBlocks

__all__ = ['KernelSoftmax', 'kernels_work']


class _Form(NamedTuple):
    """The implementation of products for a precision: Triton within its kernels, or cuBLAS before them."""

    logits_by_triton: bool
    weights_by_triton: bool


_FORMS = dict(
    float32=_Form(False, False),
    tf32=_Form(False, False),
    bfloat16=_Form(True, True),
)

# Tiles of classes and embeddings (of width in the gradient of weights), and how deep a product goes at once.
_TILES_OF_LOGITS = {
    torch.bfloat16: dict(ROWS=128, COLUMNS=64, DEPTH=64, num_warps=4, num_stages=3),
    torch.float32: dict(ROWS=128, COLUMNS=64, DEPTH=32, num_warps=8, num_stages=3),
}
_TILES_OF_WEIGHTS = {
    torch.bfloat16: dict(ROWS=128, COLUMNS=128, DEPTH=64, num_warps=8, num_stages=3),
    torch.float32: dict(ROWS=128, COLUMNS=128, DEPTH=32, num_warps=8, num_stages=3),
}
# The same where products are read.
_TILES_OF_READS = dict(ROWS=32, COLUMNS=128, DEPTH=16, num_warps=4, num_stages=2)
_ROUNDED_ROWS = 8
_INPUT_PRECISION = dict(float32='ieee', tf32='tf32', bfloat16='tf32')
# Programs for each processor of the GPU, which share the classes among them.
_PROGRAMS_PER_PROCESSOR = 2


def kernels_work(device: torch.device) -> bool:
    """Return whether Triton's kernels work on a device: tested once per GPU, with a warning on failure.

    Args:
        device (torch.device): Anything but a CUDA device has none.
    """
    if device.type != 'cuda' or find_spec('triton') is None:
        return False
    return _tried(torch.cuda.current_device() if device.index is None else device.index)


@functools.cache
def _tried(index: int) -> bool:
    try:
        with torch.inference_mode(False), torch.enable_grad():  # wherever it is asked first
            _compare_with_the_streamed_form(torch.device('cuda', index))
    except Exception as error:
        reason = format_exception_only(error)[0].split('\n')[0]  # CUDA adds advice of its own below
        warnings.warn(
            f'Triton kernels do not run on cuda:{index} ({reason}). The '
            'streamed form computes the same. They need a C compiler (gcc) and compute capability 8.0.',
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


def _compare_with_the_streamed_form(device: torch.device) -> None:
    """Raise unless the kernels give the streamed form's statistics and gradients, in each precision."""
    from .streamed_softmax import StreamedSoftmax

    generator = torch.Generator().manual_seed(0)
    units = torch.nn.functional.normalize(torch.randn(96, 128, generator=generator)).to(device)
    class_weights = torch.randn(1000, 128, generator=generator).to(device)
    labels = torch.randint(1000, (96,), generator=generator).to(device)
    for precision in _FORMS:
        found = []
        for form in (KernelSoftmax, StreamedSoftmax):
            leaves = units.clone().requires_grad_(), class_weights.clone().requires_grad_()
            statistics = form.apply(*leaves, labels, 16.0, None, False, 1, 2**20, None, None, precision)
            gradients = torch.autograd.grad(statistics[1].sum() - statistics[0].sum(), leaves)
            found.append((statistics[0].detach(), statistics[1].detach(), *gradients))
        for own, other in zip(*found, strict=True):
            if not bool((own - other).norm() <= 3e-3 * other.norm()):
                raise ArithmeticError(f'{precision} is not what the streamed form computes')


class KernelSoftmax(torch.autograd.Function):
    """Streaming softmax statistics as the streamed form returns them: same arguments, ``num_subcenters`` is 1."""

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
        units, labels = at_least_float32(units).contiguous(), labels.contiguous()
        with outside_autocast(units):
            factors = units.new_empty(len(class_weights if chosen is None else chosen))
            launch = _Launch(units, labels, factors, logit_bias, scale, cosine_clip, with_sum, precision)
            blocks = launch.blocks(class_weights, memory, chosen)
            state = _State(units, launch.splits)
            linear = cosine_clip is None
            sums = units.new_zeros(units.shape[1]) if with_sum and linear else None
            for first, rows in blocks:
                block = blocks.weights_of(rows)
                operand = launch.rounded(block, factors[rows])
                if sums is not None:
                    sums.addmv_(block.t(), factors[rows])
                launch.add_statistics(operand if launch.by_triton else blocks.products(operand), first, rows, state)
            log_sum, best, best_class = state.whole()
            if with_sum:
                sums = (state.sums.sum(0) if sums is None else sums) / scale
            ctx.save_for_backward(units, class_weights, labels, factors, log_sum, sums, chosen, logit_bias)
            ctx.settings = (scale, cosine_clip, with_sum, memory, precision)
            cosine_sum = units @ sums if sums is not None and linear else sums
            best_cosine, target = best / scale, blocks.target_cosines()
        ctx.mark_non_differentiable(best_cosine, best_class)
        return target, log_sum, cosine_sum, best_cosine, best_class

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_target: Tensor, grad_log_sum: Tensor, grad_sum: Optional[Tensor], *unused: Any
    ) -> tuple[Optional[Tensor], ...]:
        """Return the gradients of embeddings and class weights; see the streamed form for the equations."""
        units, class_weights, labels, factors, log_sum, sums, chosen, logit_bias = ctx.saved_tensors
        scale, cosine_clip, with_sum, memory, precision = ctx.settings
        with outside_autocast(units):
            launch = _Launch(units, labels, factors, logit_bias, scale, cosine_clip, with_sum, precision)
            blocks = launch.blocks(class_weights, memory, chosen)
            sign = torch.where(grad_log_sum < 0, -1.0, 1.0).to(units.dtype)
            shift = log_sum - (scale * grad_log_sum.abs()).log()
            target_grad = sign * grad_target
            signed_units = rounded(sign.unsqueeze(1) * units, precision)
            to_units = torch.zeros_like(units) if ctx.needs_input_grad[0] else None
            to_weights = blocks.new_gradient() if ctx.needs_input_grad[1] else None
            alike = grad_sum @ units if grad_sum is not None and cosine_clip is None else None
            along = units.new_empty(blocks.size)
            buffer = None
            if launch.by_triton or operand_dtype(units, precision) != units.dtype:
                buffer = units.new_empty((blocks.size, len(units)), dtype=operand_dtype(units, precision))
            for first, rows in blocks:
                block = blocks.weights_of(rows)
                operand = rounded(block, precision)
                source = operand if launch.by_triton else blocks.products(operand)
                grad = (source if buffer is None else buffer)[: len(block)]
                share = along[: len(block)]
                launch.gradient_of_products(source, first, rows, shift, sign, target_grad, grad_sum, grad, share)
                grad = rounded(grad, precision)
                if to_units is not None:
                    add_product_(to_units, grad.t(), operand, precision)
                if to_weights is None:
                    continue
                out = to_weights[rows] if blocks.in_place else torch.empty_like(block)
                if alike is not None:
                    inverse = factors[rows] / scale
                    share.addcmul_(inverse.pow(3), block @ alike)
                launch.gradient_of_weights(grad, signed_units, block, share, out)
                if alike is not None:
                    out.addr_(inverse, alike)
                if not blocks.in_place:
                    blocks.write(to_weights, rows, out)
            if to_units is not None:
                to_units *= sign.unsqueeze(1)
                if alike is not None and grad_sum is not None:
                    to_units += torch.outer(grad_sum, sums)
        return (to_units, to_weights, *[None] * 9)


def operand_dtype(units: Tensor, precision: str) -> torch.dtype:
    """Return the dtype of the operands of products."""
    return rounded(units[:0], precision).dtype


class _State:
    """Running statistics of each embedding, once for each split of the classes: shape (splits, N)."""

    def __init__(self, units: Tensor, splits: int) -> None:
        shape, lowest = (splits, len(units)), torch.finfo(units.dtype).min / 4
        self.best, self.largest = units.new_full(shape, lowest), units.new_full(shape, lowest)
        self.total, self.sums = units.new_zeros(shape), units.new_zeros(shape)
        self.best_class = torch.zeros(shape, dtype=torch.int64, device=units.device)

    def whole(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the log of the sum, the best logit and its class (the first of equal ones): shape (N,)."""
        largest, best = self.largest.amax(0), self.best.amax(0)
        total = (self.total * (self.largest - largest).exp_()).sum(0)
        last = torch.iinfo(torch.int64).max
        best_class = self.best_class.masked_fill(self.best < best, last).amin(0)
        return largest + total.clamp_(min=torch.finfo(total.dtype).tiny).log_(), best, best_class


class _Launch:
    """Launch the kernels with arguments that are the same for each block."""

    def __init__(
        self,
        units: Tensor,
        labels: Tensor,
        factors: Tensor,
        logit_bias: Optional[Tensor],
        scale: float,
        cosine_clip: Optional[float],
        with_sum: bool,
        precision: str,
    ) -> None:
        from . import softmax_kernels  # imports Triton

        self.kernels, self.scale, self.precision = softmax_kernels, float(scale), precision
        self.units, self.labels, self.factors = units, labels, factors
        self.by_triton, self.weights_by_triton = _FORMS[precision]
        self.operand = rounded(units, precision)
        self.bias = None if logit_bias is None else logit_bias.to(units.dtype).contiguous()
        tile = _TILES_OF_LOGITS[self.operand.dtype] if self.by_triton else _TILES_OF_READS
        self.keys: dict[str, Any] = dict(
            MULTIPLY=self.by_triton,
            WHOLE=units.shape[1] % tile['DEPTH'] == 0,
            CLIP=cosine_clip is not None,
            BIAS=logit_bias is not None,
            SUM=with_sum and cosine_clip is not None,  # without a clip the sum is linear, and needs no logits
            INPUT_PRECISION=_INPUT_PRECISION[precision],
            **tile,
        )
        self.limit = 0.0 if cosine_clip is None else self.scale * (1 - cosine_clip)
        self.column_tiles = math.ceil(len(units) / self.keys['COLUMNS'])
        processors = 2
        if units.is_cuda:
            processors = torch.cuda.get_device_properties(units.device).multi_processor_count
        self.splits = max(1, _PROGRAMS_PER_PROCESSOR * processors // max(1, self.column_tiles))

    def blocks(self, class_weights: Tensor, memory: int, chosen: Optional[Tensor]) -> ClassBlocks:
        """The blocks: with a matrix of logits, unless no one writes them down, or their gradient is another one."""
        buffers = 0 if self.by_triton and self.operand.dtype != self.units.dtype else 1
        return ClassBlocks(
            self.units,
            class_weights,
            self.labels,
            1,
            memory,
            chosen,
            self.factors,
            self.precision,
            buffers,
            multiple=128,  # full tiles, and addresses that all compile alike
            row_major=True,
        )

    def rounded(self, block: Tensor, factors: Tensor) -> Tensor:
        """Fill ``factors`` of a block of class weights, and return the rounded block."""
        if self.precision != 'bfloat16':
            torch.mul(inverse_norms(block), self.scale, out=factors)
            return rounded(block, self.precision)
        operand = torch.empty_like(block, dtype=self.operand.dtype)
        width = block.shape[1]
        with self._on_device():
            self.kernels.round_rows[(math.ceil(len(block) / _ROUNDED_ROWS),)](
                block,
                operand,
                factors,
                len(block),
                width,
                self.scale,
                SHORTEST,
                ROWS=_ROUNDED_ROWS,
                WIDTH=1 << (width - 1).bit_length(),
            )
        return operand

    def add_statistics(self, source: Tensor, first: int, rows: slice, state: _State) -> None:
        """Add a block of rounded class weights, or of their products, to the statistics."""
        if not self.column_tiles:
            return
        with self._on_device():
            self.kernels.add_statistics[(self.column_tiles, self.splits)](
                *self._shared(source, rows),
                state.best,
                state.best_class,
                state.largest,
                state.total,
                state.sums,
                first,
                *self._sizes(source),
                self.limit,
                **self.keys,
            )

    def gradient_of_products(
        self,
        source: Tensor,
        first: int,
        rows: slice,
        shift: Tensor,
        sign: Tensor,
        target_grad: Tensor,
        sum_grad: Optional[Tensor],
        grad: Tensor,
        along: Tensor,
    ) -> None:
        """Compute ``grad`` and ``along`` of a block."""
        programs = math.ceil(len(source) / self.keys['ROWS'])
        with self._on_device():
            self.kernels.gradient_of_products[(programs,)](
                *self._shared(source, rows),
                shift.contiguous(),
                sign,
                target_grad.contiguous(),
                sign if sum_grad is None else sum_grad.contiguous(),
                grad,
                along,
                first,
                *self._sizes(source),
                self.limit,
                self.scale,
                **self.keys,
            )

    def gradient_of_weights(self, grad: Tensor, units: Tensor, block: Tensor, share: Tensor, out: Tensor) -> None:
        """Write ``grad @ units - share * block``."""
        if not self.weights_by_triton:
            multiply(grad, units, self.precision, out=out)
            out.addcmul_(block, share.unsqueeze(1), value=-1)
            return
        tile: dict[str, Any] = _TILES_OF_WEIGHTS[self.operand.dtype]
        tiles = math.ceil(units.shape[1] / tile['COLUMNS']) * math.ceil(len(grad) / tile['ROWS'])
        with self._on_device():
            self.kernels.gradient_of_weights[(tiles,)](  # CUDA takes no more than 65,535 in a second dimension
                grad,
                units,
                block,
                share,
                out,
                len(grad),
                *units.shape,
                WHOLE=len(units) % tile['DEPTH'] == 0,
                INPUT_PRECISION=self.keys['INPUT_PRECISION'],
                **tile,
            )

    def _shared(self, source: Tensor, rows: slice) -> tuple[Tensor, ...]:
        bias = self.factors if self.bias is None else self.bias
        return source, self.operand, self.factors[rows], self.labels, bias[rows]

    def _sizes(self, source: Tensor) -> tuple[int, int, int]:
        return len(source), *self.units.shape

    def _on_device(self) -> AbstractContextManager:
        return torch.cuda.device(self.units.device) if self.units.is_cuda else nullcontext()
