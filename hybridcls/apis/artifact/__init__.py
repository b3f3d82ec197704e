"""What leaves the laboratory: a folder with the model, what it needs to answer, and what proves that it does."""

from .export import Exported, export

__all__ = ['Exported', 'export']
