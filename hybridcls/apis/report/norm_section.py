"""The section on embedding norms: whether they indicate image quality for this model."""

from collections.abc import Mapping
from typing import Any, Optional

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
    'rises': 'rises with {} (there it misleads)',
    'unclear': 'has no clear trend with {}',
}


def norm_section(readings: NormReadings) -> Section:
    """Show the norms at each severity, and the rank correlations of norm, confidence and uncertainties."""
    lowest = min(float(values.min()) for values in readings.norms.values())
    highest = max(float(values.max()) for values in readings.norms.values())
    margin = 0.05 * (highest - lowest) or 0.01
    charts = [
        dict(
            svg=boxes_chart(
                values, 'severity (0: image as it is)', 'norm of the embedding', f'Norm against {kind}',
                ylim=(lowest - margin, highest + margin),
            ),
            caption=f'{kind}: median, quartiles, and 5th to 95th percentile of {counted(readings.images, "image")}.',
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
    head = ['degradation', 'score', 'rank correlation with severity', '95 % interval', 'verdict']
    of_right = [[row['score'], percent(row['value']), _interval(row, 1)] for row in readings.right]
    tables = [
        Table('Rank correlation (Spearman) with the severity', head, rows, {2, 3}),
        Table('In pairs of a right and a wrong answer: how often the right one has the larger value (AUROC)', [
            'score', '%', '95 % interval'], of_right, {1, 2}),
    ]  # fmt: skip
    return Section('norm', 'Norm of the embedding', _says(readings), charts=charts, tables=tables)


def verdict(row: Mapping[str, Any]) -> str:
    """Interpret a rank correlation of norms with severities.

    Example:
        >>> verdict(dict(value=-0.6, low=-0.7, high=-0.5)), verdict(dict(value=0.1, low=-0.1, high=0.3))
        ('falls clearly', 'unclear')
    """
    if row['low'] is None or row['low'] <= 0 <= row['high']:
        return 'unclear'
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
    first = {len(of_norm): 'is a sign of image quality', 0: 'is no sign of image quality'}.get(
        clear, 'is a sign of image quality for some kinds of degradation'
    )
    if readings.spread < _SPREAD:
        first = (
            f'is no sign of image quality, because nearly all norms are within {100 * readings.spread:.2g} % of each '
            'other (a normalization before the head has this effect)'
        )
    says = [
        f'For this model, the norm of the embedding {first}. In {counted(readings.images, "image")} at five '
        f'severities, it {"; it ".join(parts)}.',
        'AdaFace uses the norm as image quality, and a search can weight images by it (--pool quality). Rely on this '
        'only for degradations with which the norm clearly falls.',
    ]
    norm, confidence = readings.right
    if norm['low'] is not None:
        says.append(
            f'In pairs of a right and a wrong answer, the right one has the larger norm in {_with_ends(norm)} of the '
            f'pairs, and the larger confidence in {_with_ends(confidence)} (chance: 50 %).'
        )
    return says


def _with_ends(row: Mapping[str, Any]) -> str:
    ends = '' if row['low'] is None else f' [{row["low"]:.1f}, {row["high"]:.1f}]'
    return f'{row["value"]:.1f} %{ends}'


def _correlation(row: Mapping[str, Any]) -> list[Optional[str]]:
    return [None if row['value'] is None else f'{row["value"]:+.2f}', _interval(row, 2)]


def _interval(row: Mapping[str, Any], digits: int) -> Optional[str]:
    sign = '+' if digits == 2 else ''
    return None if row['low'] is None else f'{row["low"]:{sign}.{digits}f} to {row["high"]:{sign}.{digits}f}'
