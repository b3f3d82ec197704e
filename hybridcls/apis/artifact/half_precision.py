"""Compare a model exported in float16 with PyTorch in float32."""

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ['check_half']

PROBABILITY = 0.02
"""How far a probability may be off."""
DIRECTION = 0.99
"""The least cosine of an embedding with that of float32, of models without classes."""


def check_half(expected: Sequence[Mapping[str, np.ndarray]], got: Sequence[Mapping[str, np.ndarray]]) -> str:
    """Return a sentence on how much the outputs change in float16.

    Args:
        expected (Sequence[Mapping]): Batches of predictions in float32, by output.
        got (Sequence[Mapping]): The same in float16.

    Raises:
        ValueError: If a probability is off by more than :data:`PROBABILITY` (so that the most probable class is another
            one only where the two best are nearer than twice that); without classes, if an embedding turns.
    """
    if 'probabilities' not in expected[0]:
        before, after = (np.concatenate([batch['embedding'] for batch in batches]) for batches in (expected, got))
        norms = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
        cosine = float(np.nan_to_num((before * after).sum(1) / np.maximum(norms, 1e-30), nan=-1).min())
        if cosine < DIRECTION:
            raise ValueError(
                f'export: in float16 an embedding turns to a cosine of {cosine:.4f}, less than {DIRECTION}.'
            )
        return f'float16: embeddings keep their direction to a cosine of {cosine:.6f}.'
    before, after = (np.concatenate([batch['probabilities'] for batch in batches]) for batches in (expected, got))
    off = float(np.nan_to_num(np.abs(before - after), nan=np.inf).max())
    if off > PROBABILITY:
        raise ValueError(
            f'export: in float16 a probability is off by {off:.3g}, more than {PROBABILITY}. Type: --dtype float32'
        )
    same = before.argmax(1) == after.argmax(1)
    return f'float16: probabilities are off by at most {off:.2g}, top-1 agrees on {same.sum()} of {len(same)} images.'
