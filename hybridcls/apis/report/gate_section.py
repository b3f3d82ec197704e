"""How much a model of two streams leans on each."""

from collections.abc import Sequence

import numpy as np

from .charts import histogram_chart
from .evaluated_images import EvaluatedImages
from .gate import GateReadings
from .html_page import Section, Table

__all__ = ['gate_section']


def gate_section(gates: GateReadings, known: EvaluatedImages, classes: Sequence[str]) -> Section:
    """Show the readings of a gate by image and by class, and the accuracy with a stream off."""
    first, second = gates.names
    share = 100 * gates.shares[:, 0]
    both = 100 * float((known.predicted == known.labels).mean())
    rows = [['both streams', f'{both:.1f}']]
    for name, predicted in gates.alone.items():
        rows.append([f'{name} alone (the other set to zero)', f'{100 * float((predicted == known.labels).mean()):.1f}'])
    by_class = [
        [classes[int(one)], int((known.labels == one).sum()), f'{share[known.labels == one].mean():.1f}']
        for one in np.unique(known.labels)
    ]
    chart = histogram_chart({'images': share}, f'share of {first}, %', f'How much the gate leans on {first}')
    return Section(
        'gate', 'The gate', [
            f'On average {share.mean():.1f} % of what passes the gate is of {first}, the rest of {second}: '
            'the norm of its gated vector, over the sum of both.'],
        charts=[dict(svg=chart, caption=f'0: {second} alone; 100: {first} alone.')],
        tables=[Table('Accuracy with a stream off', ['streams', 'accuracy, %'], rows, {1}),
                Table(f'Share of {first} by class', ['class', 'images', 'share, %'], by_class, {1, 2})],
    )  # fmt: skip
