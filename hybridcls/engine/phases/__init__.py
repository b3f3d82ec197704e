"""Run several configs as one job: each phase starts from the weights of the one before it."""

from .folds import in_folds
from .running import run_chain

__all__ = ['in_folds', 'run_chain']
