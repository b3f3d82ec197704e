"""The section on the training."""

from collections.abc import Sequence

from .charts import curves_chart
from .html_page import Section, Table
from .training_facts import TrainingFacts

__all__ = ['training_section']


def training_section(phases: Sequence[TrainingFacts]) -> Section:
    """Show the facts of a training and its phases: curves, settings, the command to repeat it, and the config."""
    section = Section('training', 'Training')
    commands = []
    for one in phases:
        of = f' of phase {one.phase}' if one.phase else ''
        section.tables.append(Table(f'What was trained{f": phase {one.phase}" if one.phase else ""}',
                                    ['what', 'value'], one.facts, sorts=False))  # fmt: skip
        if one.written and one.recipe is None:
            head = ['key', 'value', 'set by']
            section.tables.append(
                Table(f'Config{of}: what it and the options set on top of its bases', head, one.written)
            )
        if one.recipe is not None:
            title = f'Config{of}: differences from the shipped {one.recipe}'
            section.tables.append(Table(title, ['key', 'this training', 'shipped config'], one.differences))
        if one.losses:
            title = f'Losses{of}'
            section.charts.append(dict(svg=curves_chart(one.losses, 'updates', 'loss, nats', title), caption=title))
        if one.percents:
            title = f'Validations{of}'
            section.charts.append(dict(svg=curves_chart(one.percents, 'updates', '%', title), caption=title))
        section.details.append(dict(title=f'Full config{of}', text=one.config))
        commands += one.repeat
    section.details.insert(0, dict(title='How to repeat the training', text='\n'.join(commands), open=True))
    return section
