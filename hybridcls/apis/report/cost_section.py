"""What an answer costs."""

from ..inferencer import HybridInferencer
from .cost import model_cost
from .evaluated_images import EvaluatedImages
from .html_page import Section, Table

__all__ = ['cost_section']


def cost_section(model: HybridInferencer, known: EvaluatedImages) -> Section:
    """Measure the model on images of the size that it sees."""
    size = next(iter(model.preprocess(known.items[:1])))[0][0][1]['inputs'].shape[-2:]
    rows = model_cost(model, (int(size[0]), int(size[1])))
    return Section('cost', 'Cost', ['Measured on this machine, while the report was made.'], tables=[
        Table('Size and time', ['what', 'value'], rows, {1}, sorts=False)])  # fmt: skip
