"""The state of the random generators of a process: Python's, NumPy's and torch's."""

import random
from typing import Any

import numpy as np
import torch

__all__ = ['get_random_state', 'seed_generators', 'set_random_state']


def get_random_state() -> dict[str, Any]:
    """Return the state of the generators of this process: Python, NumPy, torch on the CPU and on its CUDA device."""
    version, keys, gauss = random.getstate()
    name, words, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    # Tensors and plain numbers only, so that the checkpoint stays readable by torch.load(weights_only=True).
    state: dict[str, Any] = dict(
        python=(version, torch.tensor(keys, dtype=torch.int64), gauss),
        numpy=(name, torch.from_numpy(np.asarray(words, np.int64)), int(position), int(has_gauss), float(cached)),
        torch=torch.get_rng_state(),
    )
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Put the generators back to a state from :func:`get_random_state`."""
    version, keys, gauss = state['python']
    random.setstate((version, tuple(keys.tolist()), gauss))
    name, words, position, has_gauss, cached = state['numpy']
    words = words.cpu().numpy().astype(np.uint32)
    np.random.set_state((name, words, position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


def seed_generators(*words: int) -> None:
    """Seed the generators of Python and torch with the first of two 64-bit numbers, NumPy's with the second."""
    random.seed(words[0])
    torch.manual_seed(words[0] % 2**63)
    np.random.seed(words[1] % 2**32)  # noqa: NPY002  (the generator that transforms draw from)
