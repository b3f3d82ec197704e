"""The section on robustness: accuracy, calibration and coverage over the severity of corruptions."""

from collections.abc import Mapping, Sequence
from typing import Any

from .charts import curves_chart
from .html_page import Section, Table, percent

__all__ = ['robustness_section']

_CHARTS = (
    ('accuracy', 'accuracy, %', 'Accuracy against severity'),
    ('ece', 'ECE, %', 'Calibration error against severity'),
    ('unanswered', 'images without an answer, %', 'Abstention against severity'),
    ('error', 'error among the answers, %', 'Error among the answers against severity'),
)


def robustness_section(rows: Sequence[Mapping[str, Any]]) -> Section:
    """Show charts with all corruptions, and the table.

    Args:
        rows (Sequence[Mapping]): Of :func:`~hybridcls.apis.report.corrupted_images.robustness`.
    """
    clean, corrupted = rows[0], rows[1:]
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for row in corrupted:
        by_kind.setdefault(row['kind'], [clean]).append(row)
    charts = []
    for key, unit, title in _CHARTS:
        curves = {
            kind: ([row['severity'] for row in of_kind if row[key] is not None],
                   [row[key] for row in of_kind if row[key] is not None])
            for kind, of_kind in by_kind.items()
            if key in clean
        }  # fmt: skip
        if curves:
            limits = (0, 100) if key in ('accuracy', 'unanswered') else (0, None)
            svg = curves_chart(curves, 'severity, 0: the image as it is', unit, title, ylim=limits)
            charts.append(dict(svg=svg, caption=title))
    means = {
        kind: sum(row['accuracy'] for row in of_kind[1:]) / (len(of_kind) - 1) for kind, of_kind in by_kind.items()
    }
    worst = min(means, key=lambda kind: means[kind])
    loses = 'It loses most to' if means[worst] < clean['accuracy'] else 'None costs accuracy on these images, not even'
    says = [
        f'Each image is corrupted at the size that the model sees, as by hybridcls test --corruptions. {loses} '
        f'{worst}: over its severities {means[worst]:.1f} % are right, of {clean["accuracy"]:.1f} % as they are.'
    ]
    answered = [row for row in corrupted if row.get('error') is not None]
    if 'unanswered' in clean:
        says.append(
            'The threshold is that of the calibration, which promises something of images like its own alone: here it '
            'is seen whether it withholds answers where images get worse.'
        )
        if answered:
            least = max(answered, key=lambda row: row['error'])
            says.append(
                f'At worst ({least["kind"]}, severity {least["severity"]}) {least["error"]:.1f} % of the answers are '
                f'wrong, and {least["unanswered"]:.1f} % of the images have none.'
            )
    else:
        says.append(
            'Of a calibration with a threshold (hybridcls calibrate --risk) it would show the answers withheld.'
        )
    more = ['unanswered, %', 'error of answers, %'] * ('unanswered' in clean)
    table = [
        [row['kind'] or 'none', row['severity'], percent(row['accuracy']),
         f'{row["accuracy_low"]:.1f} to {row["accuracy_high"]:.1f}', percent(row['ece']), percent(row['confidence']),
         *(percent(row[key]) for key in ('unanswered', 'error') if key in clean)]
        for row in rows
    ]  # fmt: skip
    head = ['corruption', 'severity', 'accuracy, %', '95 % interval', 'ECE, %', 'mean probability, %', *more]
    numbers = set(range(1, len(head)))
    return Section('robustness', 'Robustness', says, charts=charts, tables=[
        Table('Corrupted images', head, table, numbers)])  # fmt: skip
