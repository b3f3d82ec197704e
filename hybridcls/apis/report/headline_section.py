"""The headline numbers at the top of a page."""

from collections.abc import Sequence
from typing import Any

from ..inferencer import HybridInferencer
from .html_page import Section

__all__ = ['OUTSIDE', 'headline_section']

OUTSIDE = 'The interval lies above the number: resamples repeat images, which makes a calibration error larger.'
"""What a page says of an ECE that is not in its bootstrap interval."""


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
        what = row['what']
        if row['low'] is not None and not row['low'] <= row['value'] <= row['high']:
            what += f'. {OUTSIDE}'
        cards.append(dict(name=row['name'], value=f'{row["value"]:.{digits}f}{unit}', interval=interval, what=what))
    says = [] if model.calibration is None else [f'Probabilities are calibrated: {model.calibration.calibration}.']
    return Section('numbers', 'In numbers', says, cards)
