"""Format a benchmark as text."""

from collections.abc import Sequence
from typing import Any

from .measuring import Benchmark

__all__ = ['benchmark_text']


def benchmark_text(found: Benchmark, columns: int = 120) -> str:
    """Format the results: the machine, one table per batch size, one of predictions, and the choice.

    Args:
        found (Benchmark): What was measured.
        columns (int): Of a line: where a table is wider, names stand above their numbers. Defaults to 120.
    """
    about = found.machine
    flags = f' ({", ".join(about["flags"])})' if about['flags'] else ''
    gpu = f'; {about["gpu"]}' if 'gpu' in about else ''
    threads = '1 thread' if about['threads'] == 1 else f'{about["threads"]} threads'
    lines = [f'{about["cpu"]}{flags}, {threads} of {about["cores"]} processors{gpu}; torch {about["torch"]}']
    if about['missing_to_compile']:
        lines.append(f'torch.compile needs {about["missing_to_compile"]}.')
    if found.preprocess_ms is not None:
        lines.append(f'Reading and preprocessing an image takes {found.preprocess_ms:.1f} ms of one thread; not in the '
                     'tables.')  # fmt: skip
    for size in sorted({size for row in found.rows for size in row.speeds}):
        table = [
            (f'batch {size}', f'{"images/s":>8} {"p50 ms":>8} {"p95 ms":>8} {"time":>5} {"peak MiB":>8} {"beyond":>6} '
                              f'{"first s":>7}')
        ]  # fmt: skip
        for row in found.rows:
            if size in row.speeds:
                one = row.speeds[size]
                table.append(
                    (row.name,
                     f'{one.images_per_second:>8.1f} {one.p50_ms:>8.2f} {_number(one.p95_ms, 8, 2)} {one.ratio:>5.2f} '
                     f'{_number(one.peak_mib, 8)} {_number(one.beyond_mib, 6)} {one.first_ms / 1e3:>7.1f}')
                )  # fmt: skip
        lines += ['', *_aligned(table, columns)]
    thresholds = any(row.accuracy is not None and row.accuracy.answered is not None for row in found.rows)
    more = f' {"answered":>8} {"wrong":>5}' if thresholds else ''
    table = [
        ('an image', f'{"GFLOPs":>6} {"accuracy":>8} {"NLL":>6} {"lost":>6} {"interval":>16} {"changed":>7} '
                     f'{"largest":>7}{more}')
    ]  # fmt: skip
    for row in found.rows:
        said = row.accuracy
        if said is not None:
            ends = f'{said.low:+.2f} to {said.high:+.2f}'
            more = f' {said.answered:>8} {said.wrong:>5}' if thresholds else ''
            table.append(
                (row.name,
                 f'{_number(row.gflops, 6, 2)} {said.accuracy:>7.2f}% {said.nll:>6.4f} {said.lost_points:>+6.2f} '
                 f'{ends:>16} {said.changed_decisions:>7} {said.largest_change:>7.1e}{more}')
            )  # fmt: skip
        elif not row.missing:
            table.append((row.name, _number(row.gflops, 6, 2)))
    lines += ['', *_aligned(table, columns)]
    absent = [f'{row.name}: {row.missing}' for row in found.rows if row.missing]
    return '\n'.join([*lines, '', *absent, *found.notes])


def _aligned(table: Sequence[tuple[str, str]], columns: int) -> list[str]:
    """Return lines of names and aligned numbers."""
    width = max(len(name) for name, _ in table)
    if width + 1 + max(len(numbers) for _, numbers in table) <= columns:
        return [f'{name:<{width}} {numbers}' for name, numbers in table]
    return [line for pair in table for line in pair]


def _number(value: Any, width: int, digits: int = 0) -> str:
    return f'{"-":>{width}}' if value is None else f'{value:>{width}.{digits}f}'
