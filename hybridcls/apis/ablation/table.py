"""Format an ablation as a table."""

import math
from collections.abc import Sequence

from .effects import ArmEffect, Metric

__all__ = ['table_of']


def table_of(effects: Sequence[ArmEffect], metrics: Sequence[Metric], markdown: bool = False) -> str:
    """Return the table: gain with its interval and adjusted p-value by metric, cost, verdict.

    Args:
        effects (Sequence[ArmEffect]): A row each.
        metrics (Sequence[Metric]): Three columns each.
        markdown (bool): With bars, for a page. Defaults to False.
    """
    head = ['arm', 'against']
    for metric in metrics:
        head += [f'{metric.name} gain, {metric.unit}', '95 % interval', 'p (Holm)']
    rows = [[*head, 'step time', 'memory, MiB', 'verdict']]
    for one in effects:
        row = [one.arm.name, str(one.arm.against)]
        for metric in metrics:
            gain = one.gains.get(metric.key)
            if gain is None:
                row += ['-', '-', '-']
                continue
            has_width = gain.high > gain.low  # not of equal differences, nor of one seed
            interval = f'{gain.low:+.3g} .. {gain.high:+.3g}' if has_width else '-'
            p_value = one.adjusted[metric.key]
            row += [f'{gain.mean:+.3g}', interval, '-' if math.isnan(p_value) else f'{p_value:.2g}']
        row.append('-' if one.step_ratio is None else f'x {one.step_ratio:.2f}')
        row.append('-' if one.memory is None else f'{one.memory:+.0f}')
        rows.append([*row, one.verdict])
    if markdown:
        rows.insert(1, ['---'] * len(rows[0]))
        return ''.join(f'| {" | ".join(row)} |\n' for row in rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return '\n'.join(
        '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
