"""Several configs as one job: each phase starts from what the one before it learned."""

from .running import run_chain

__all__ = [
    'run_chain',
]
