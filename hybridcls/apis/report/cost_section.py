"""The section on the cost of a prediction."""

from .cost import ModelCost
from .html_page import Section, Table

__all__ = ['cost_section']


def cost_section(cost: ModelCost) -> Section:
    """Show the cost of the model on images of its input size."""
    says = (
        f'Measured on this machine while the report was made. Times are medians of {cost.numbers["runs"]} runs of the '
        'network alone, without reading and decoding images.'
    )
    return Section('cost', 'Cost', [says], tables=[
        Table('Size and time', ['what', 'value'], cost.rows, {1}, sorts=False)])  # fmt: skip
