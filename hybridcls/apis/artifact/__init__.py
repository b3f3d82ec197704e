"""A trained model that has left the laboratory: a folder that runs without hybridcls and without torch."""

from .exporting import Exported, export

__all__ = ['Exported', 'export']
