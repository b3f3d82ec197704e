"""Several configs as one job: each phase starts from what the one before it learned."""

from .folds import in_folds
from .running import run_chain

__all__ = ['in_folds', 'run_chain']
