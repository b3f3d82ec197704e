"""The short table at the end of a chain: what each phase reached, how long it took, and where things are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Union

from .phase_record import PhaseRecord

__all__ = ['phase_table']

_PICTURES = {'.png', '.svg', '.pdf'}


def phase_table(work_dir: Union[str, Path], records: Sequence[PhaseRecord]) -> str:
    """Draw the table.

    Args:
        work_dir (str | Path): The folder of the chain.
        records (Sequence[PhaseRecord]): What its phases left behind, in order.

    Returns:
        str: A few lines of text.

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
        (f'{number} {record.name}', f'{record.seconds:.1f}', _result(record.metrics))
        for number, record in enumerate(records, 1)
    ]
    if len(records) > 1:
        rows.append(('together', f'{sum(record.seconds for record in records):.1f}', ''))
    first, second = max(len(row[0]) for row in rows), max(len(row[1]) for row in rows)
    lines = [f'{a:<{first}}  {b:>{second}}  {c}'.rstrip() for a, b, c in rows]
    folders = [work_dir / f'{number}_{record.name}' for number, record in enumerate(records, 1)]
    for record, folder in zip(records, folders, strict=True):
        for kind, path in record.checkpoints.items():
            lines.append(f'{"best " if kind == "best" else ""}checkpoint of {record.name}: {folder / path}')
    lines.append(f'logs: {", ".join(str(folder) for folder in folders)}')
    curves = [str(path) for folder in folders for path in sorted(folder.rglob('*curve*')) if path.suffix in _PICTURES]
    if curves:
        lines.append(f'curves: {", ".join(curves)}')
    return '\n'.join(lines)


def _result(metrics: dict[str, float]) -> str:
    """Return the metrics of the test, and without one those of the validation; the scores before the losses."""
    for kind, label in (('test/', 'test'), ('val/', 'validation')):
        names = [name for name in metrics if name.startswith(kind) and 'time' not in name]
        names.sort(key=lambda name: 'loss' in name)
        if names:
            shown = [
                f'{name.removeprefix(kind)} {metrics[name]:.{2 if "loss" not in name else 4}f}' for name in names[:4]
            ]
            return f'{", ".join(shown)} ({label})'
    return 'not validated'
