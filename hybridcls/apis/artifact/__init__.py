"""Artifact: an exported model, a folder that runs without hybridcls and without torch."""

from .exporting import Exported, export
from .quantized_artifact import TooMuchLost

__all__ = ['Exported', 'TooMuchLost', 'export']
