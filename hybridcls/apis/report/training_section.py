"""What was trained, and how it went."""

from .charts import curves_chart
from .html_page import Section, Table
from .training_facts import TrainingFacts

__all__ = ['training_section']


def training_section(facts: TrainingFacts) -> Section:
    """Show the facts of a training, its curves and its config."""
    tables = [Table('What was trained', ['what', 'value'], facts.facts)]
    if facts.recipe is not None:
        tables.append(
            Table(f'Where the config differs from {facts.recipe}', ['key', 'here', 'there'], facts.differences)
        )
    losses = {name: curve for name, curve in facts.curves.items() if 'loss' in name}
    percent = {name: curve for name, curve in facts.curves.items() if 'accuracy/' in name and '_low' not in name}
    charts = []
    if losses:
        charts.append(dict(
            svg=curves_chart(losses, 'updates', 'loss, nats', 'Losses of the training'), caption='Losses'))  # fmt: skip
    if percent:
        charts.append(dict(svg=curves_chart(
            percent, 'updates', 'accuracy, %', 'Accuracy of the validations'), caption='Accuracy'))  # fmt: skip
    return Section(
        'training', 'Training', [f'To train it again: {facts.repeat}'], charts=charts, tables=tables,
        details=[dict(title='The whole config', text=facts.config)],
    )  # fmt: skip
