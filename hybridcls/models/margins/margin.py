"""The protocol of a margin: our base class, and what a margin head requires of any margin."""

from typing import Any, Union

import torch
from torch import Tensor, nn

from hybridcls.signatures import takes_positional

from ..building.shape_probe import probe_shapes

__all__ = ['Margin', 'check_margin', 'check_target_logits', 'log_scalars_of']


class Margin(nn.Module):
    """Base of margins: target logits from the cosines to the target classes.

    A subclass defines :meth:`with_margin` and sets ``margin``. A margin from elsewhere need not derive from this class:
    any module that is called as ``margin(target_cosine, norms, labels)`` works in a margin head, ``with_margin`` makes
    it a base of ``ClassWise``, and ``log_scalars`` is optional.

    Attributes:
        margin (float): Its number, to read or to set (a warm-up).

    Shape:
        - target_cosine, norms: ``(N,)``, float32 or float64: cosines to the target classes in [-1, 1], and the norms of
          the embeddings.
        - labels: ``(N,)``, int64: the target classes.
        - returns: ``(N,)``, the target logits before the scale.

    Example:
        >>> class HalfMargin(Margin):
        ...     margin = 0.5
        ...     def with_margin(self, target_cosine, norms, margin):
        ...         return target_cosine - margin
        >>> HalfMargin()(torch.tensor([0.75]), torch.ones(1), torch.tensor([0]))
        tensor([0.2500])
    """

    margin: float

    def forward(self, target_cosine: Tensor, norms: Tensor, labels: Tensor) -> Tensor:
        """Return the target logits before the scale, ``(N,)``."""
        return self.with_margin(target_cosine, norms, self.margin_of(labels))

    def with_margin(self, target_cosine: Tensor, norms: Tensor, margin: Union[float, Tensor]) -> Tensor:
        """Return the target logits for another margin: one number, or one for each row, ``(N,)``."""
        raise TypeError(
            f'{type(self).__name__}: expected a method with_margin(target_cosine, norms, margin), got none. Write '
            'it, or override forward(target_cosine, norms, labels).'
        )

    def margin_of(self, labels: Tensor) -> Union[float, Tensor]:
        """Return the margin of each label; here the same for all."""
        return self.margin

    def log_scalars(self) -> dict[str, Tensor]:
        """Return the values that are logged beside the loss; here none."""
        return {}


def log_scalars_of(margin: Any) -> dict[str, Tensor]:
    """Return the values that a margin logs; one from another package may have no ``log_scalars``."""
    return getattr(margin, 'log_scalars', dict)()


def check_margin(caller: str, margin: Any) -> None:
    """Raise unless a margin returns one target logit per image; its state is not changed.

    Args:
        caller (str): Name used as the error prefix.
        margin (nn.Module | Callable): What was built.

    Raises:
        TypeError: If it cannot be called as ``margin(target_cosine, norms, labels)``.
        ValueError: If it returns anything but a tensor of shape ``(N,)``.
    """
    if not callable(margin) or not takes_positional(getattr(margin, 'forward', margin), 3):
        raise TypeError(
            f'{caller}: expected a margin that is called as margin(target_cosine, norms, labels), got '
            f'{type(margin).__name__}. Derive it from nn.Module and give its forward these three arguments.'
        )
    two = torch.empty(2, device='meta')
    try:
        target = probe_shapes(margin, two, two, torch.empty(2, dtype=torch.int64, device='meta'))
    except Exception:  # it looks at values, which only a batch has
        return
    check_target_logits(caller, margin, target, two)


def check_target_logits(caller: str, margin: Any, target: Any, target_cosine: Tensor) -> None:
    """Raise a ValueError unless a margin returned a tensor of the shape of the cosines."""
    if not isinstance(target, Tensor) or target.shape != target_cosine.shape:
        got = f'shape {tuple(target.shape)}' if isinstance(target, Tensor) else type(target).__name__
        raise ValueError(
            f'{caller}: expected target logits of shape {tuple(target_cosine.shape)}, one for each image, from the '
            f'margin {type(margin).__name__}, got {got}.'
        )
