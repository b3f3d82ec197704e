"""What an answer costs."""

from .cost import ModelCost
from .html_page import Section, Table

__all__ = ['cost_section']


def cost_section(cost: ModelCost) -> Section:
    """Show what was measured on images of the size that the model sees."""
    says = (
        f'Measured on this machine, while the report was made: times are medians of {cost.numbers["runs"]} runs of the '
        'network alone, without reading and decoding images.'
    )
    return Section('cost', 'Cost', [says], tables=[
        Table('Size and time', ['what', 'value'], cost.rows, {1}, sorts=False)])  # fmt: skip
