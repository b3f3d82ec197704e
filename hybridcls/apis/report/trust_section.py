"""The section on trust: risk over coverage, and the rejection of unknown classes."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from hybridcls.checks import counted

from .charts import curves_chart, histogram_chart
from .evaluated_images import EvaluatedImages
from .html_page import Section, Table, percent
from .numbers import risk_curve

__all__ = ['trust_section']

_BLIND = 50.0  # AUROC of a score that tells nothing, %


def trust_section(
    known: EvaluatedImages, unknown: Optional[EvaluatedImages], rejection: Sequence[Mapping[str, Any]]
) -> Section:
    """Show the error over the coverage and, with unknown images, which score rejects them best."""
    curve = risk_curve(known)
    charts = [
        dict(
            svg=curves_chart(
                {'error': ([100 * x for x in curve['coverage']], [100 * y for y in curve['risk']])},
                'coverage: images answered, the most confident first, %', 'error rate of the answers, %',
                'Error against coverage',
                ylim=(0, max(1.0, 105 * max(curve['risk']))),
            ),
            caption='The error rate if only the most confident images are answered.',
        )
    ]  # fmt: skip
    tables, says = [], []
    if unknown is not None:
        charts.append(
            dict(
                svg=histogram_chart(
                    {'known': 100 * known.confidence, 'unknown': 100 * unknown.confidence},
                    'probability of the answer, %', 'Known and unknown images',
                ),
                caption='Confidence on images of the classes (known), and on others (unknown).',
            )
        )  # fmt: skip
        tables.append(Table(
            'Scores that reject these unknown images, the best first',
            ['score', 'AUROC, %', '95 % interval', 'unknown images accepted with 95 % of the known ones, %'],
            [[row['score'].replace('_', ' '), percent(row['auroc']),
              None if row['low'] is None else f'{row["low"]:.1f} to {row["high"]:.1f}', percent(row['fpr95'])]
             for row in rejection], {1, 2, 3}))  # fmt: skip
        best = rejection[0]
        says.append(
            f'The score {best["score"].replace("_", " ")} separates the {counted(len(unknown), "unknown image")} best '
            f'from the known ones (AUROC {best["auroc"]:.1f} %). For other unknown images, another score may be the '
            'best.'
        )
        if (best['low'] if best['low'] is not None else best['auroc']) <= _BLIND:
            says.append('This is not clearly better than chance (50 %). Do not reject images by a score of this model.')
    return Section('trust', 'Rejecting uncertain answers', says, charts=charts, tables=tables)
