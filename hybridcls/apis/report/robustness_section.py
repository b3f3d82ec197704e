"""The section on robustness: accuracy, calibration and coverage over the severity of corruptions."""

from collections.abc import Mapping, Sequence
from typing import Any

from .charts import curves_chart
from .html_page import Section, Table, percent

__all__ = ['robustness_section']

_CHARTS = (
    ('accuracy', 'accuracy, %', 'Accuracy against severity'),
    ('ece', 'ECE, %', 'Calibration error against severity'),
    ('unanswered', 'images without an answer, %', 'Rejected images against severity'),
    ('error', 'error rate of the answers, %', 'Error rate of the answers against severity'),
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
            svg = curves_chart(curves, 'severity (0: image as it is)', unit, title, ylim=limits)
            charts.append(dict(svg=svg, caption=title))
    means, lows, highs = (
        {kind: sum(row[key] for row in of_kind[1:]) / (len(of_kind) - 1) for kind, of_kind in by_kind.items()}
        for key in ('accuracy', 'accuracy_low', 'accuracy_high')  # the mean of the ends is no narrower than due
    )
    worst = min(means, key=lambda kind: means[kind])
    lowest = 'The accuracy is lowest' if means[worst] < clean['accuracy'] else 'No corruption lowers it; it is lowest'
    asked = f'{clean["accuracy"]:.1f} % [{clean["accuracy_low"]:.1f}, {clean["accuracy_high"]:.1f}]'
    says = [
        'Each image is corrupted at the size that the model sees, as by hybridcls test --corruptions. The accuracy is '
        f'{asked} on the images as they are. {lowest} with {worst}: {means[worst]:.1f} % [{lows[worst]:.1f}, '
        f'{highs[worst]:.1f}], averaged over its severities (as are the ends of the interval).'
    ]
    answered = [row for row in corrupted if row.get('error') is not None]
    if 'unanswered' in clean:
        says.append(
            'The threshold of the calibration has a guarantee for images like those it was fitted on, not for '
            'corrupted ones. These numbers show whether it rejects more images if they get worse.'
        )
        if answered:
            least = max(answered, key=lambda row: row['error'])
            says.append(
                f'The highest error rate is {least["error"]:.1f} % ({least["kind"]}, severity {least["severity"]}), '
                f'where {least["unanswered"]:.1f} % of the images get no answer.'
            )
    else:
        says.append(
            'With a threshold (hybridcls calibrate --risk), this section also shows how many images get no answer.'
        )
    more = ['without an answer, %', 'error rate of the answers, %'] * ('unanswered' in clean)
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
