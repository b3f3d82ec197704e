"""Compute the gradient of a large batch in small pieces."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Optional

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hybridcls.checks import check_number

from .mutable_state import MutableState
from .random_state import get_random_state, isolated_randomness

__all__ = ['GradientCache']


class GradientCache:
    """Embed a batch in micro-batches whose activations are recomputed in the backward pass, not stored.

    A contrastive loss needs all embeddings of its batch at once, but not all activations: `GradCache
    <https://arxiv.org/abs/2101.06983>`_ embeds micro-batch by micro-batch without a graph, takes the loss and its
    gradient at the embeddings, and then embeds each micro-batch again, with a graph, to hand that gradient on. Here
    the second embedding is a recomputation within ``backward()`` (``torch.utils.checkpoint`` around each micro-batch),
    so that nothing else of a training step has to know: mixed precision, a loss scaler, DDP (which still averages
    once), gradient accumulation, SAM and clipping work as without it. The activations that are held at a time are
    those of one micro-batch; the cost is one more forward pass.

    The gradient is that of the batch in one piece. The recomputation draws the same random numbers (dropout, drop
    path; torch's, NumPy's and Python's generators) and moves no buffer, so running statistics and counters move once.
    The exception is BatchNorm, here as in any micro-batching: it normalises with the statistics of a micro-batch.
    Layers without batch statistics (LayerNorm, GroupNorm) or ``frozen_stages`` have no such dependence.

    Args:
        micro_batch (int): Rows at a time; the views of an image are rows of their own. Batches are cut into equal
            parts of at most so many rows.

    Raises:
        ValueError, TypeError: If ``micro_batch`` is no integer above 0.

    Example:
        >>> layer, cache = nn.Linear(3, 2), GradientCache(micro_batch=4)
        >>> embedding = cache(layer, torch.ones(10, 3), [layer])
        >>> embedding.shape
        torch.Size([10, 2])
        >>> embedding.sum().backward()
        >>> layer.bias.grad
        tensor([10., 10.])
    """

    def __init__(self, micro_batch: int) -> None:
        check_number(
            'GradientCache',
            'micro_batch',
            micro_batch,
            1,
            integer=True,
            advice='It is the number of rows that are embedded at a time: grad_cache=dict(micro_batch=64).',
        )
        self.micro_batch = micro_batch

    def __call__(self, embed: Callable[[Tensor], Any], inputs: Tensor, modules: Sequence[nn.Module]) -> Any:
        """Return the same as ``embed(inputs)``.

        Args:
            embed (Callable): Gives tensors, or nested tuples and lists of them, with one row for each row of its
                input.
            inputs (Tensor): N rows.
            modules (Sequence[nn.Module]): What ``embed`` calls; their buffers change once.
        """
        num_pieces = -(-len(inputs) // self.micro_batch)
        if num_pieces <= 1 or not torch.is_grad_enabled():
            return embed(inputs)
        state = MutableState(modules)
        state.record()
        embedded = []
        for piece in inputs.tensor_split(num_pieces):
            # Each piece casts the weights for itself: through a shared cast, gradients would add up in half precision.
            torch.clear_autocast_cache()
            passes = _TwoPasses(state, inputs.device)
            embedded.append(
                checkpoint(embed, piece, use_reentrant=False, preserve_rng_state=False, context_fn=passes.contexts)
            )
        torch.clear_autocast_cache()
        return _concatenate(embedded)

    def __repr__(self) -> str:
        return f'GradientCache(micro_batch={self.micro_batch})'


class _TwoPasses:
    """Make the second pass over a micro-batch repeat the first one, without side effects."""

    def __init__(self, state: MutableState, device: torch.device) -> None:
        self._state = state
        self._device = device
        self._random_state: Optional[dict[str, Any]] = None

    def contexts(self) -> tuple[AbstractContextManager, AbstractContextManager]:
        return self._first(), self._second()

    @contextmanager
    def _first(self) -> Iterator[None]:
        self._random_state = get_random_state(self._device)
        yield

    @contextmanager
    def _second(self) -> Iterator[None]:
        with isolated_randomness(self._random_state, self._device), self._state.rolled_back(on_copies=True):
            yield


def _concatenate(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if not isinstance(first, (tuple, list)):
        raise TypeError(
            f'grad_cache: the features hold a {type(first).__name__}, and only tensors, in tuples or '
            'lists, can be joined over micro-batches. Use a backbone and a neck that return tensors, or '
            'drop grad_cache.'
        )
    return type(first)(_concatenate(entries) for entries in zip(*parts, strict=True))
