"""A queue of embeddings of past batches."""

import torch
from torch import Tensor, nn

from hybridcls.checks import check_number

__all__ = ['EmbeddingQueue']


class EmbeddingQueue(nn.Module):
    """A first-in, first-out queue of the latest embeddings and labels, as additional negatives and positives.

    It is `MoCo <https://arxiv.org/abs/1911.05722>`_'s queue without its second encoder: what comes in are embeddings of
    the model itself, as old as their place in the queue says. So a queue of many batches wants a small learning rate.

    All of it stands in buffers, so it is in the checkpoint. They are replaced, never written to: a backward pass may
    still need them as they were, and a repeated forward pass (SAM) can be given what the first one saw.

    Args:
        size (int): The most embeddings that are kept; a view counts.
        dim (int): D, their width.

    Raises:
        ValueError, TypeError: If one is not an integer above 0.

    Example:
        >>> queue = EmbeddingQueue(size=3, dim=2)
        >>> queue.add(torch.eye(2), torch.tensor([4, 5]))
        >>> queue.add(torch.ones(2, 2), torch.tensor([6, 7]))
        >>> embeddings, labels = queue.contents()
        >>> labels
        tensor([6, 7, 4])
    """

    embeddings: Tensor
    labels: Tensor
    filled: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        check_number('EmbeddingQueue', 'size', size, 1, integer=True)
        check_number('EmbeddingQueue', 'dim', dim, 1, integer=True)
        self.size = size
        self.register_buffer('embeddings', torch.zeros(size, dim))
        self.register_buffer('labels', torch.zeros(size, dtype=torch.int64))
        self.register_buffer('filled', torch.tensor(0))
        self._is_full = False

    def contents(self) -> tuple[Tensor, Tensor]:
        """Return the embeddings, shape (M, D), and labels, (M,), newest first; M <= size grows until it is full."""
        if not self._is_full:  # once full, it stays full, and a GPU is not waited for
            filled = int(self.filled)
            self._is_full = filled == self.size
            return self.embeddings[:filled], self.labels[:filled]
        return self.embeddings, self.labels

    @torch.no_grad()
    def add(self, embeddings: Tensor, labels: Tensor) -> None:
        """Add embeddings, shape (M, D), without their gradient; the oldest beyond ``size`` are dropped.

        Rows that are not finite come in as zeros, which have no direction: a non-finite batch would else reach all that
        follow.

        Raises:
            ValueError: If the embeddings are not D wide.
        """
        if embeddings.shape[1:] != self.embeddings.shape[1:]:
            raise ValueError(
                f'EmbeddingQueue: expected embeddings of dim={self.embeddings.shape[1]}, got shape '
                f'{tuple(embeddings.shape)}. Set dim to the width of what the loss gets: '
                f'queue=dict(size={self.size}, dim={embeddings.shape[-1]}).'
            )
        finite = embeddings.isfinite().all(1, keepdim=True)
        embeddings = embeddings.masked_fill(~finite, 0).to(self.embeddings.dtype)
        self.embeddings = torch.cat([embeddings, self.embeddings])[: self.size].contiguous()
        self.labels = torch.cat([labels.to(torch.int64), self.labels])[: self.size].contiguous()
        self.filled = (self.filled + len(embeddings)).clamp(max=self.size)

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._is_full = False  # look again

    def extra_repr(self) -> str:
        """Return the settings, for ``print(model)``."""
        return f'size={self.size}, dim={self.embeddings.shape[1]}'
