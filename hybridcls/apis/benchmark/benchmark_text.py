"""A benchmark as a text of tables."""

from typing import Any

from .measuring import Benchmark

__all__ = ['benchmark_text']


def benchmark_text(found: Benchmark) -> str:
    """Format what was measured: the machine, a table a batch size, one of answers, and what was chosen."""
    about = found.machine
    flags = f' ({", ".join(about["flags"])})' if about['flags'] else ''
    gpu = f'; {about["gpu"]}' if 'gpu' in about else ''
    lines = [f'{about["cpu"]}{flags}, {about["threads"]} threads of {about["cores"]} processors{gpu}; '
             f'torch {about["torch"]}']  # fmt: skip
    if about['missing_to_compile']:
        lines.append(f'torch.compile needs {about["missing_to_compile"]}.')
    if found.preprocess_ms is not None:
        lines.append(f'Reading and preprocessing an image takes {found.preprocess_ms:.1f} ms of one thread; not in the '
                     'tables.')  # fmt: skip
    width = max(len(row.name) for row in found.rows)
    for size in sorted({size for row in found.rows for size in row.speeds}):
        lines += ['', f'{f"batch {size}":<{width}}  {"images/s":>9}  {"p50 ms":>9}  {"p95 ms":>9}  {"time":>6}  '
                      f'{"peak MiB":>8}  {"beyond":>7}  {"first s":>7}']  # fmt: skip
        for row in found.rows:
            if size in row.speeds:
                one = row.speeds[size]
                lines.append(
                    f'{row.name:<{width}}  {one.images_per_second:>9.1f}  {one.p50_ms:>9.2f}  '
                    f'{_number(one.p95_ms, 9, 2)}  {one.ratio:>6.2f}  {_number(one.peak_mib, 8)}  '
                    f'{_number(one.beyond_mib, 7)}  {one.first_ms / 1e3:>7.1f}'
                )
    thresholds = any(row.accuracy is not None and row.accuracy.answered is not None for row in found.rows)
    more = f'  {"answered":>8}  {"wrong":>6}' if thresholds else ''
    lines += ['', f'{"an image":<{width}}  {"GFLOPs":>7}  {"accuracy":>8}  {"NLL":>7}  {"lost":>6}  {"interval":>15}  '
                  f'{"changed":>7}  {"largest":>8}{more}']  # fmt: skip
    for row in found.rows:
        said = row.accuracy
        if said is not None:
            ends = f'{said.low:+.2f} to {said.high:+.2f}'
            more = f'  {said.answered:>8}  {said.wrong:>6}' if thresholds else ''
            lines.append(
                f'{row.name:<{width}}  {_number(row.gflops, 7, 2)}  {said.accuracy:>7.2f}%  {said.nll:>7.4f}  '
                f'{said.lost_points:>+6.2f}  {ends:>15}  {said.changed_decisions:>7}  {said.largest_change:>8.1e}{more}'
            )
        elif not row.missing:
            lines.append(f'{row.name:<{width}}  {_number(row.gflops, 7, 2)}')
    absent = [f'{row.name}: {row.missing}' for row in found.rows if row.missing]
    return '\n'.join([*lines, '', *absent, *found.notes])


def _number(value: Any, width: int, digits: int = 0) -> str:
    return f'{"-":>{width}}' if value is None else f'{value:>{width}.{digits}f}'
