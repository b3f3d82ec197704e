"""Triton kernels of the streaming softmax, which visit each block of logits once.

Rows are classes, columns embeddings. With ``MULTIPLY`` a kernel computes its logits from the operands, and they are
never in memory; without, it reads the products that cuBLAS has written. Each number is written by one program, and sums
have a fixed order: results are the same in each run. Import this file only where Triton is installed.
"""

# mypy: allow-untyped-defs
import triton
import triton.language as tl

__all__ = ['add_statistics', 'gradient_of_products', 'gradient_of_weights', 'round_rows']


@triton.jit
def _products(
    left, left_rows, left_count, right, right_rows, right_count, width,
    WHOLE: tl.constexpr, INPUT_PRECISION: tl.constexpr, LEFT: tl.constexpr, RIGHT: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Return the inner products of rows of two matrices, a tile (LEFT, RIGHT), float32; undefined outside of them."""
    found = tl.zeros((LEFT, RIGHT), tl.float32)
    # Rows outside repeat the last one, which costs no mask; what comes of them is dropped.
    left += tl.minimum(left_rows, left_count - 1)[:, None].to(tl.int64) * width
    right += tl.minimum(right_rows, right_count - 1)[None, :].to(tl.int64) * width
    for start in range(0, width, DEPTH):
        depth = start + tl.arange(0, DEPTH)
        if WHOLE:
            one, other = tl.load(left + depth[None, :]), tl.load(right + depth[:, None])
        else:
            inside = depth < width
            one = tl.load(left + depth[None, :], mask=inside[None, :], other=0.0)
            other = tl.load(right + depth[:, None], mask=inside[:, None], other=0.0)
        found = tl.dot(one, other, found, input_precision=INPUT_PRECISION)
    return found


@triton.jit(do_not_specialize=['count'])
def round_rows(block, operand, factors, count, width, scale, shortest, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Write a block of class weights rounded to bfloat16, and ``scale`` over the norm of each, in one visit.

    ``operand`` may be float32, which then holds rounded values. Rows no longer than ``shortest`` get the factor 0.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, WIDTH)
    place = rows[:, None].to(tl.int64) * width + columns[None, :]
    inside = (rows < count)[:, None] & (columns < width)[None, :]
    weights = tl.load(block + place, mask=inside, other=0.0)
    norms = tl.sqrt(tl.sum(weights * weights, 1))
    if operand.dtype.element_ty == tl.float32:  # to the nearest by hand: Triton's interpreter cuts off
        bits = weights.to(tl.int32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000
        tl.store(operand + place, bits.to(tl.float32, bitcast=True), mask=inside)
    else:
        tl.store(operand + place, weights.to(tl.bfloat16), mask=inside)
    tl.store(factors + rows, tl.where(norms > shortest, scale / norms, 0.0), mask=rows < count)


@triton.jit(do_not_specialize=['first', 'count'])
def add_statistics(
    source, units, factors, labels, bias, best, best_class, largest, total, sums,
    first, count, num, width, limit,
    MULTIPLY: tl.constexpr, WHOLE: tl.constexpr, CLIP: tl.constexpr, BIAS: tl.constexpr, SUM: tl.constexpr,
    INPUT_PRECISION: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Add a block's non-target classes to the running statistics of each embedding; each split has its own.

    ``best``, ``best_class``, ``largest``, ``total`` and ``sums`` have the shape (splits, N); program (i, j) visits
    every splits-th tile of the block from the j-th on, for the i-th tile of embeddings.
    """
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    here = columns < num
    split, splits = tl.program_id(1), tl.num_programs(1)
    place = split * num + columns
    target = tl.load(labels + columns, mask=here, other=-1) - first
    best_now = tl.load(best + place, mask=here, other=0.0)
    class_now = tl.load(best_class + place, mask=here, other=0)
    largest_now = tl.load(largest + place, mask=here, other=0.0)
    total_now = tl.load(total + place, mask=here, other=0.0)
    if SUM:
        sum_now = tl.load(sums + place, mask=here, other=0.0)
    for tile in range(split, tl.cdiv(count, ROWS), splits):
        rows = tile * ROWS + tl.arange(0, ROWS)
        inside = rows < count
        factor = tl.load(factors + rows, mask=inside, other=0.0)
        # Embeddings are the rows of the tile: sums over classes stay within a few threads.
        if MULTIPLY:
            logits = _products(
                units, columns, num, source, rows, count, width, WHOLE, INPUT_PRECISION, COLUMNS, ROWS, DEPTH
            )
        else:
            logits = tl.load(
                source + rows[None, :].to(tl.int64) * num + columns[:, None],
                mask=inside[None, :] & here[:, None],
                other=0.0,
            )
        logits *= factor[None, :]
        in_sum = logits
        if CLIP:
            in_sum = tl.minimum(tl.maximum(in_sum, -limit), limit)
        if SUM:
            sum_now += tl.sum(tl.where(inside[None, :], in_sum, 0.0), 1)
        if BIAS:
            in_sum += tl.load(bias + rows, mask=inside, other=0.0)[None, :]
        others = inside[None, :] & (rows[None, :] != target[:, None])
        logits = tl.where(others, logits, -float('inf'))
        in_sum = tl.where(others, in_sum, -float('inf'))
        tile_best = tl.max(logits, 1)
        tile_row = tl.min(tl.where(logits == tile_best[:, None], rows[None, :], count), 1)
        better = tile_best > best_now
        class_now = tl.where(better, first + tile_row, class_now)
        best_now = tl.where(better, tile_best, best_now)
        above = tl.maximum(largest_now, tl.max(in_sum, 1))
        total_now = total_now * tl.exp(largest_now - above) + tl.sum(tl.exp(in_sum - above[:, None]), 1)
        largest_now = above
    tl.store(best + place, best_now, mask=here)
    tl.store(best_class + place, class_now, mask=here)
    tl.store(largest + place, largest_now, mask=here)
    tl.store(total + place, total_now, mask=here)
    if SUM:
        tl.store(sums + place, sum_now, mask=here)


@triton.jit(do_not_specialize=['first', 'count'])
def gradient_of_products(
    source, units, factors, labels, bias, shift, sign, target_grad, sum_grad, grad, along,
    first, count, num, width, limit, scale,
    MULTIPLY: tl.constexpr, WHOLE: tl.constexpr, CLIP: tl.constexpr, BIAS: tl.constexpr, SUM: tl.constexpr,
    INPUT_PRECISION: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Write the gradient of the products w u of a block, and how far that of each class weight points along it.

    ``grad`` (rows, N) has the sign of ``sign`` taken out, as in the streamed form, and may be ``source``; ``along``
    (rows,) is the factor of the class weight in its own gradient: the sum of gradient times cosine, over its squared
    norm. One program visits all embeddings for a tile of classes.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = rows < count
    factor = tl.load(factors + rows, mask=inside, other=0.0)
    pulled = tl.zeros((ROWS,), tl.float32)
    for start in range(0, num, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        here = columns < num
        if MULTIPLY:
            logits = _products(
                source, rows, count, units, columns, num, width, WHOLE, INPUT_PRECISION, ROWS, COLUMNS, DEPTH
            )
        else:
            logits = tl.load(
                source + rows[:, None].to(tl.int64) * num + columns[None, :],
                mask=inside[:, None] & here[None, :],
                other=0.0,
            )
        logits *= factor[:, None]
        in_sum = logits
        if BIAS:
            in_sum += tl.load(bias + rows, mask=inside, other=0.0)[:, None]
        found = tl.exp(in_sum - tl.load(shift + columns, mask=here, other=float('inf'))[None, :])
        column_sign = tl.load(sign + columns, mask=here, other=0.0)
        target = tl.load(labels + columns, mask=here, other=-1) - first
        is_target = rows[:, None] == target[None, :]
        found = tl.where(is_target, 0.0, found)
        if SUM:
            found += (column_sign * tl.load(sum_grad + columns, mask=here, other=0.0))[None, :]
        if CLIP:
            found = tl.where((logits > limit) | (logits < -limit), 0.0, found)
        found += tl.where(is_target, tl.load(target_grad + columns, mask=here, other=0.0)[None, :], 0.0)
        pulled += tl.sum(logits * found * column_sign[None, :], 1)
        tl.store(
            grad + rows[:, None].to(tl.int64) * num + columns[None, :],
            (found * (factor / scale)[:, None]).to(grad.dtype.element_ty),
            mask=inside[:, None] & here[None, :],
        )
    inverse = factor / scale
    tl.store(along + rows, pulled / scale * inverse * inverse, mask=inside)


@triton.jit(do_not_specialize=['count'])
def gradient_of_weights(
    grad, units, block, share, out,
    count, num, width,
    WHOLE: tl.constexpr, INPUT_PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Write the gradient of a block of class weights: ``grad @ units - share * block``, one visit of the block."""
    tile, across = tl.program_id(0), tl.cdiv(width, COLUMNS)
    columns = tile % across * COLUMNS + tl.arange(0, COLUMNS)
    rows = tile // across * ROWS + tl.arange(0, ROWS)  # which all columns visit together, while they are in the cache
    inside = (rows < count)[:, None] & (columns < width)[None, :]
    found = tl.zeros((ROWS, COLUMNS), tl.float32)
    left = grad + tl.minimum(rows, count - 1)[:, None].to(tl.int64) * num
    right = units + tl.minimum(columns, width - 1)[None, :]
    for start in range(0, num, DEPTH):
        depth = start + tl.arange(0, DEPTH)
        if WHOLE:
            one, other = tl.load(left + depth[None, :]), tl.load(right + depth[:, None].to(tl.int64) * width)
        else:
            here = depth < num
            one = tl.load(left + depth[None, :], mask=here[None, :], other=0.0)
            other = tl.load(right + depth[:, None].to(tl.int64) * width, mask=here[:, None], other=0.0)
        found = tl.dot(one, other, found, input_precision=INPUT_PRECISION)
    place = rows[:, None].to(tl.int64) * width + columns[None, :]
    weights = tl.load(block + place, mask=inside, other=0.0)
    factor = tl.load(share + rows, mask=rows < count, other=0.0)
    tl.store(out + place, found - factor[:, None] * weights, mask=inside)
