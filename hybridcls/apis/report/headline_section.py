"""The numbers that a page begins with."""

from collections.abc import Sequence
from typing import Any

from ..inferencer import HybridInferencer
from .html_page import Section

__all__ = ['headline_section']


def headline_section(rows: Sequence[dict[str, Any]], notes: Sequence[str], model: HybridInferencer) -> Section:
    """Show rows as :func:`~hybridcls.apis.report.numbers.headline` returns them as cards, below the notes."""
    cards = []
    for row in rows:
        unit = ' %' if row['unit'] == '%' else f' {row["unit"]}'.rstrip()
        digits = 1 if row['unit'] == '%' else 3
        interval = (
            f'[{row["low"]:.{digits}f}, {row["high"]:.{digits}f}], {row["better"]} is better'
            if row['low'] is not None
            else f'{row["better"]} is better; no interval'
        )
        cards.append(
            dict(name=row['name'], value=f'{row["value"]:.{digits}f}{unit}', interval=interval, what=row['what'])
        )
    says = list(notes)
    if model.calibration is not None:
        says.append(f'Probabilities are calibrated: {model.calibration.calibration}.')
    return Section('numbers', 'In numbers', says, cards)
