"""The section on the cost of a prediction."""

from ..inferencer import HybridInferencer
from .cost import model_cost, seen_size
from .evaluated_images import EvaluatedImages
from .html_page import Section, Table

__all__ = ['cost_section']


def cost_section(model: HybridInferencer, known: EvaluatedImages) -> Section:
    """Measure the model on images of its input size."""
    rows = model_cost(model, seen_size(model, known.items))
    return Section('cost', 'Cost', ['Measured on this machine, while the report was made.'], tables=[
        Table('Size and time', ['what', 'value'], rows, {1}, sorts=False)])  # fmt: skip
