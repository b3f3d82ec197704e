"""What leaves the laboratory: a folder with the model, what it needs to answer, and what proves that it does."""

from .exporting import Exported, export
from .quantized_artifact import TooMuchLost

__all__ = ['Exported', 'TooMuchLost', 'export']
