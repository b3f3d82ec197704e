"""The state of a process's random generators: Python's, NumPy's and torch's."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor

__all__ = ['as_tensors', 'isolated_randomness', 'get_random_state', 'seed_generators', 'set_random_state']


def get_random_state(device: Optional[torch.device] = None) -> dict[str, Any]:
    """Return the state of this process's generators: Python, NumPy, torch on the CPU and on an accelerator.

    Nothing waits for a GPU of CUDA, whose generator is read on the host.

    Args:
        device (torch.device, optional): Defaults to None: the current CUDA device, if CUDA is in use; else the
            accelerator that torch has found (MPS).
    """
    legacy = np.random.get_state()  # noqa: NPY002  (the generator that models and pipelines use)
    state: dict[str, Any] = dict(python=random.getstate(), numpy=legacy, torch=torch.get_rng_state())
    kind = _accelerator_in_use() if device is None else device.type
    if kind not in (None, 'cpu', 'meta'):
        state[kind] = torch.get_device_module(kind).get_rng_state(*_place(kind, device))
    return state


def as_tensors(state: dict[str, Any]) -> dict[str, Any]:
    """Convert a state to tensors and plain numbers, for a checkpoint that ``torch.load(weights_only=True)`` reads."""
    version, keys, gauss = state['python']
    name, words, *rest = state['numpy']
    words = torch.from_numpy(words.astype(np.int64))  # torch's format before 1.6 has no uint32
    return {**state, 'python': (version, torch.tensor(keys), gauss), 'numpy': (name, words, *rest)}


def set_random_state(state: dict[str, Any], device: Optional[torch.device] = None) -> None:
    """Restore the generators to a state from :func:`get_random_state` or :func:`as_tensors`."""
    version, keys, gauss = state['python']
    random.setstate((version, tuple(keys.tolist()) if isinstance(keys, Tensor) else keys, gauss))
    name, words, *rest = state['numpy']
    words = words.cpu().numpy().astype(np.uint32) if isinstance(words, Tensor) else words
    np.random.set_state((name, words, *rest))  # noqa: NPY002
    torch.set_rng_state(state['torch'].cpu())
    for kind in state.keys() - {'python', 'numpy', 'torch'}:  # what another machine had may be absent here
        module = getattr(torch, kind, None)  # of a backend from elsewhere there may be none
        if module is not None and module.is_available():
            module.set_rng_state(state[kind].cpu(), *_place(kind, device))


def _accelerator_in_use() -> Optional[str]:
    if torch.cuda.is_initialized():
        return 'cuda'
    try:
        found = torch.accelerator.current_accelerator()
    except RuntimeError:  # how torch 2.6 says that it was built for none
        return None
    return None if found is None or found.type == 'cuda' or not torch.accelerator.is_available() else found.type


def _place(kind: str, device: Optional[torch.device]) -> tuple[Any, ...]:
    """Return the device argument for an accelerator's generator.

    CUDA has a generator for each GPU; what else there is has one (of MPS, torch 2.6 takes no device).
    """
    return (device or 'cuda',) if kind == 'cuda' else ()


@contextmanager
def isolated_randomness(
    start: Optional[dict[str, Any]] = None, device: Optional[torch.device] = None
) -> Iterator[None]:
    """Restore the generators after the block, so that random numbers drawn in it leave no trace.

    Args:
        start (dict, optional): State to start from, of :func:`get_random_state`. Defaults to the state as it is.
        device (torch.device, optional): As in :func:`get_random_state`.

    Example:
        >>> state = get_random_state()
        >>> number = random.random()
        >>> with isolated_randomness(state):
        ...     random.random() == number
        True
    """
    found = get_random_state(device)
    if start is not None:
        set_random_state(start, device)
    try:
        yield
    finally:
        set_random_state(found, device)


def seed_generators(*words: int) -> None:
    """Seed the generators of Python and torch with the first of two 64-bit numbers, NumPy's with the second."""
    random.seed(words[0])
    torch.manual_seed(words[0] % 2**63)
    np.random.seed(words[1] % 2**32)  # noqa: NPY002  (the generator that transforms draw from)
