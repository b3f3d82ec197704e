"""The headline numbers at the top of a page."""

from collections.abc import Sequence
from typing import Any

from ..inferencer import HybridInferencer
from .html_page import Section

__all__ = ['headline_section']


def headline_section(rows: Sequence[dict[str, Any]], model: HybridInferencer) -> Section:
    """Show rows as :func:`~hybridcls.apis.report.numbers.headline` returns them as cards.

    Args:
        rows (Sequence[dict]): Numbers.
        model (HybridInferencer): Whose calibration is named.
    """
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
    says = [] if model.calibration is None else [f'Probabilities are calibrated: {model.calibration.calibration}.']
    return Section('numbers', 'In numbers', says, cards)
