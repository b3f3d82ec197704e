"""The section on embedding norms: whether they indicate image quality for this model."""

from collections.abc import Mapping
from typing import Any, Optional

import numpy as np

from hybridcls.checks import counted

from .charts import boxes_chart
from .embedding_norm import NormReadings
from .html_page import Section, Table, percent

__all__ = ['norm_section']

_SPREAD = 0.01  # of the norms, below which they are called equal
_CLEAR = -0.3  # a rank correlation from which on it is called clear
_DOES = {
    'falls clearly': 'falls clearly with {}',
    'falls a little': 'falls a little with {}',
    'rises': 'rises with {}, where it misleads',
    'does not tell': 'does not tell of {}',
}


def norm_section(readings: NormReadings) -> Section:
    """Show the norms at each severity, and the rank correlations of norm, confidence and uncertainties."""
    lowest = min(float(values.min()) for values in readings.norms.values())
    highest = max(float(values.max()) for values in readings.norms.values())
    margin = 0.05 * (highest - lowest) or 0.01
    charts = [
        dict(
            svg=boxes_chart(
                values, 'severity, 0: the image as it is', 'norm of the embedding', f'Norm against {kind}',
                ylim=(lowest - margin, highest + margin),
            ),
            caption=f'{kind}: median, the middle half, and 5 to 95 % of {counted(readings.images, "image")}.',
        )
        for kind, values in readings.norms.items()
    ]  # fmt: skip
    rows = [
        [
            row['kind'],
            row['score'].replace('_', ' '),
            *_correlation(row),
            verdict(row) if row['score'] == 'norm' else '',
        ]
        for row in readings.rows
    ]
    head = ['degradation', 'score', 'rank correlation with severity', '95 % interval', 'the norm']
    of_right = [[row['score'], percent(row['value']), _interval(row, 1)] for row in readings.right]
    tables = [
        Table('Rank correlation (Spearman) with the severity', head, rows, {2, 3}),
        Table('How often the right one of a right and a wrong answer has the larger value (AUROC)', [
            'score', '%', '95 % interval'], of_right, {1, 2}),
    ]  # fmt: skip
    return Section('norm', 'Norm of the embedding', _says(readings), charts=charts, tables=tables)


def verdict(row: Mapping[str, Any]) -> str:
    """Interpret a rank correlation of norms with severities.

    Example:
        >>> verdict(dict(value=-0.6, low=-0.7, high=-0.5)), verdict(dict(value=0.1, low=-0.1, high=0.3))
        ('falls clearly', 'does not tell')
    """
    if row['low'] is None or row['low'] <= 0 <= row['high']:
        return 'does not tell'
    if row['low'] > 0:
        return 'rises'
    return 'falls clearly' if row['high'] <= _CLEAR else 'falls a little'


def _says(readings: NormReadings) -> list[str]:
    of_norm = [row for row in readings.rows if row['score'] == 'norm']
    found: dict[str, list[str]] = {}
    for row in of_norm:
        found.setdefault(verdict(row), []).append(row['kind'])
    parts = [what.format(', '.join(found[name])) for name, what in _DOES.items() if name in found]
    clear = len(found.get('falls clearly', ()))
    first = {len(of_norm): 'is a sign of quality', 0: 'is no sign of quality'}.get(
        clear, 'is a sign of quality in part'
    )
    says = [
        f'For this model the norm of the embedding {first}: it {"; it ".join(parts)} '
        f'({counted(readings.images, "image")} at five '
        'severities). AdaFace takes the norm for the quality of an image, and a search may weigh by it (--pool '
        'quality): that holds as far as it falls here.'
    ]
    values = np.concatenate([of_kind.ravel() for of_kind in readings.norms.values()])
    low, middle, high = np.percentile(values, (5, 50, 95))
    if high - low < _SPREAD * middle:
        says.append(
            f'Nearly all norms are within {100 * (high - low) / middle:.2g} % of each other, as a normalization before '
            'the head makes them: there is nothing to tell images apart by.'
        )
    norm, confidence = readings.right
    if norm['low'] is not None:
        better = 'tells more' if confidence['value'] > norm['value'] else 'tells no more'
        says.append(
            f'Of a right and a wrong answer the right one has the larger norm in {norm["value"]:.1f} % of pairs (50 '
            f'would be chance); the probability of the answer {better}: {confidence["value"]:.1f} %.'
        )
    return says


def _correlation(row: Mapping[str, Any]) -> list[Optional[str]]:
    return [None if row['value'] is None else f'{row["value"]:+.2f}', _interval(row, 2)]


def _interval(row: Mapping[str, Any], digits: int) -> Optional[str]:
    sign = '+' if digits == 2 else ''
    return None if row['low'] is None else f'{row["low"]:{sign}.{digits}f} to {row["high"]:{sign}.{digits}f}'
