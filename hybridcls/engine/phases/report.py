"""Format a table of a chain's phases: results, durations, files."""

import ast
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Union

from .record import PhaseRecord

__all__ = ['phase_table']

_PICTURES = {'.png', '.svg', '.pdf'}
_SAVE_BEST = re.compile(r'default_hooks\.checkpoint\.save_best(\.\d+)?')
_WIDTH = 120  # characters


def phase_table(work_dir: Union[str, Path], records: Sequence[PhaseRecord]) -> str:
    """Format the table.

    Args:
        work_dir (str | Path): The folder of the chain.
        records (Sequence[PhaseRecord]): What its phases left behind, in order.

    Returns:
        str: A few lines of text. All results of a phase are there, over several lines where one of 120 characters is
        too short: first those that the best checkpoint is chosen by, losses last.

    Example:
        >>> record = PhaseRecord('supcon', '', {}, {'last': 'epoch_1.pth'}, {'val/knn/top1': 97.5}, 61.2)
        >>> print(phase_table('work_dirs/nowhere', [record]))
        phase     seconds  result
        1 supcon     61.2  knn/top1 97.50 (validation)
        checkpoint of supcon: work_dirs/nowhere/1_supcon/epoch_1.pth
        logs: work_dirs/nowhere/1_supcon
    """
    work_dir = Path(work_dir)
    rows = [('phase', 'seconds', 'result')]
    rows += [
        (f'{number} {record.name}', f'{record.seconds:.1f}', _result(record))
        for number, record in enumerate(records, 1)
    ]
    if len(records) > 1:
        rows.append(('together', f'{sum(record.seconds for record in records):.1f}', ''))
    first, second = max(len(row[0]) for row in rows), max(len(row[1]) for row in rows)
    lines = []
    for name, seconds, result in rows:
        result_lines = _wrapped(result, _WIDTH - first - second - 4) or ['']
        heads = [f'{name:<{first}}  {seconds:>{second}}', *[' ' * (first + second + 2)] * (len(result_lines) - 1)]
        lines += [f'{head}  {line}'.rstrip() for head, line in zip(heads, result_lines, strict=True)]
    folders = [work_dir / f'{number}_{record.name}' for number, record in enumerate(records, 1)]
    for record, folder in zip(records, folders, strict=True):
        for kind, path in record.checkpoints.items():
            lines.append(f'{"best " if kind == "best" else ""}checkpoint of {record.name}: {folder / path}')
    lines.append(f'logs: {", ".join(str(folder) for folder in folders)}')
    curves = [str(path) for folder in folders for path in sorted(folder.rglob('*curve*')) if path.suffix in _PICTURES]
    if curves:
        lines.append(f'curves: {", ".join(curves)}')
    return '\n'.join(lines)


def _result(record: PhaseRecord) -> str:
    """Return the results of the test, or else of the validation, with no-break spaces between name and number."""
    monitored = [ast.literal_eval(value) for key, value in record.facts.items() if _SAVE_BEST.fullmatch(key)]
    for kind, label in (('test/', 'test'), ('val/', 'validation')):
        values = {name.removeprefix(kind): value for name, value in record.metrics.items() if name.startswith(kind)}
        names = [name for name in values if 'time' not in name]
        names.sort(key=lambda name: (name not in monitored, 'loss' in name))
        if names:
            shown = [f'{name}\N{NO-BREAK SPACE}{values[name]:.{4 if "loss" in name else 2}f}' for name in names]
            return f'{", ".join(shown)}\N{NO-BREAK SPACE}({label})'
    return 'not\N{NO-BREAK SPACE}validated'


def _wrapped(text: str, width: int) -> list[str]:
    lines = textwrap.wrap(text, max(20, width), break_long_words=False, break_on_hyphens=False)
    return [line.replace('\N{NO-BREAK SPACE}', ' ') for line in lines]
