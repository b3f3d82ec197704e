"""Exported models: folders that predict without hybridcls and without torch."""

from .exporting import Exported, export
from .quantized_artifact import TooMuchLost

__all__ = ['Exported', 'TooMuchLost', 'export']
