"""Charts of a report for a model card; they contain no images of the data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ['write_figures']


def write_figures(report: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Draw the charts that the numbers of a report allow, into ``figures``; return their captions by their paths.

    Args:
        report (Mapping): Of :func:`~hybridcls.apis.hub.report_card.read_report`.
        folder (Path): Of the card.
    """
    from ..report.charts import curves_chart, png_of, reliability_chart  # takes a second, and is seldom needed

    drawn: dict[str, tuple[str, bytes]] = {}
    calibration = report.get('calibration') or {}
    for part in ('before', 'after'):
        if calibration.get(part):
            title = f'Reliability {part} calibration: how often answers are right, by how probable they say they are'
            drawn[f'reliability_{part}'] = title, reliability_chart(calibration[part], title, png_of)
    curve = report.get('risk_coverage')
    if curve:
        title = 'Error among the images that are answered, the surest first'
        places = [[100 * value for value in curve[key]] for key in ('coverage', 'risk')]
        drawn['risk_coverage'] = (
            title,
            curves_chart({'error': (places[0], places[1])}, 'images answered, %', 'error among them, %', title, png_of),
        )
    rows = report.get('robustness') or []
    kinds = dict.fromkeys(row['kind'] for row in rows if row['kind'])
    if kinds:
        title = 'Accuracy against the severity of corruptions'
        curves = {
            kind: ([row['severity'] for row in rows if row['kind'] in (None, kind)],
                   [row['accuracy'] for row in rows if row['kind'] in (None, kind)])
            for kind in kinds
        }  # fmt: skip
        drawn['robustness'] = (
            title,
            curves_chart(curves, 'severity, 0: the image as it is', 'accuracy, %', title, png_of, ylim=(0, 100)),
        )
    captions = {}
    for name, (title, png) in drawn.items():
        path = folder / 'figures' / f'{name}.png'
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png)
        captions[path.relative_to(folder).as_posix()] = title
    return captions
