"""The numbers that a page begins with."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ..inferencer import HybridInferencer
from .html_page import Section

__all__ = ['headline_section']


def headline_section(
    rows: Sequence[dict[str, Any]],
    notes: Sequence[str],
    model: HybridInferencer,
    threshold: Optional[Mapping[str, Any]] = None,
) -> Section:
    """Show rows as :func:`~hybridcls.apis.report.numbers.headline` returns them as cards, below the notes.

    Args:
        rows (Sequence[dict]): Numbers.
        notes (Sequence[str]): Sentences.
        model (HybridInferencer): Whose calibration is named.
        threshold (Mapping, optional): What its threshold does here, as of :class:`CalibrationEffect`.
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
    says = list(notes)
    if model.calibration is not None:
        says.append(f'Probabilities are calibrated: {model.calibration.calibration}.')
    if threshold is not None:
        answered, errors = (
            f'{100 * share["value"]:.1f} % [{100 * share["low"]:.1f}, {100 * share["high"]:.1f}]'
            for share in (threshold['answered'], threshold['errors'])
        )
        wrong = f', and {errors} of these answers are wrong' if threshold['images'] else ''
        says.append(f'With its threshold {answered} of these images are answered{wrong}.')
    return Section('numbers', 'In numbers', says, cards)
