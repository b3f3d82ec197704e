"""The section on trust: risk over coverage, and the rejection of unknown classes."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

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
                'images answered, the surest first, %', 'error among them, %', 'Error against coverage',
                ylim=(0, max(1.0, 105 * max(curve['risk']))),
            ),
            caption='What is gained by answering the surest images alone.',
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
                caption='How sure the model is of images of its classes, and of others.',
            )
        )  # fmt: skip
        tables.append(Table(
            'Which score rejects these unknown images best',
            ['score', 'AUROC, %', '95 % interval', 'unknown accepted where 95 % of the known are, %'],
            [[row['score'].replace('_', ' '), percent(row['auroc']),
              None if row['low'] is None else f'{row["low"]:.1f} to {row["high"]:.1f}', percent(row['fpr95'])]
             for row in rejection], {1, 2, 3}))  # fmt: skip
        best = rejection[0]
        says.append(
            f'Of these {len(unknown)} unknown images, {best["score"].replace("_", " ")} tells most: AUROC '
            f'{best["auroc"]:.1f} %. On other unknown images another score may be the best.'
        )
        if (best['low'] if best['low'] is not None else best['auroc']) <= _BLIND:
            says.append(
                'That is not better than drawing lots (50 %), as far as these images tell: do not reject by a score of '
                'this model.'
            )
    return Section('trust', 'How far to trust an answer', says, charts=charts, tables=tables)
