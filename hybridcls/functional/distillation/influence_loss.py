"""The influence loss of backward-compatible training: an old classifier judges new embeddings."""

import torch
from torch import Tensor

from hybridcls.checks import check_choice

from ..full_precision import at_least_float32, outside_autocast

__all__ = ['INFLUENCE_MEANS', 'influence_loss']

INFLUENCE_MEANS = ('all', 'known')


def influence_loss(logits: Tensor, targets: Tensor, old_classes: Tensor, mean: str = 'all') -> Tensor:
    r"""Return the cross entropy of an old classifier on new embeddings, averaged over images.

    :math:`L(w_{c\,old}, w_\phi; T)` of `Shen et al. <https://arxiv.org/abs/2003.11942>`_ (section 3.3), with T the
    images whose class the old classifier has. Images of other classes add 0. By default they are counted in the mean:
    so it does not matter how a batch is spread over processes. The authors' code leaves them out of it.

    Args:
        logits (Tensor): Of the old classifier, (N, K), any floating dtype.
        targets (Tensor): Classes of the training, int64 (N,), or probabilities (N, C) of mixed images.
        old_classes (Tensor): The old classifier's number of each class of the training, int64 (C,); -1 where it has
            none.
        mean (str): ``'all'``: over all images; ``'known'``: over those whose class the old classifier has (of mixed
            images, the share of such classes), those of this process alone. Defaults to ``'all'``.

    Returns:
        Tensor: A scalar >= 0, float32 or float64.

    Raises:
        ValueError: If the shapes do not fit, or for another mean.

    Example:
        >>> influence_loss(torch.tensor([[9., 0.], [0., 9.]]), torch.tensor([2, 0]), torch.tensor([-1, 1, 0])) < 1e-3
        tensor(True)
    """
    check_choice('influence_loss', 'mean', mean, INFLUENCE_MEANS)
    if logits.dim() != 2 or len(logits) != len(targets):
        raise ValueError(
            f'influence_loss: expected logits (N, K) and N targets, got {tuple(logits.shape)} and '
            f'{tuple(targets.shape)}.'
        )
    with outside_autocast(logits):
        scores = at_least_float32(logits).log_softmax(1)
        known = old_classes >= 0
        if targets.is_floating_point():
            own_scores = torch.where(known, scores[:, old_classes.clamp(min=0)], 0.0)  # a mask as index would wait
            shares = targets.to(scores.dtype)
            total, counted = -(shares * own_scores).sum(), torch.where(known, shares, 0.0).sum()
        else:
            own = old_classes[targets]
            picked = scores.gather(1, own.clamp(min=0).unsqueeze(1)).squeeze(1)
            total, counted = -torch.where(own >= 0, picked, 0.0).sum(), (own >= 0).sum()
        if mean == 'all':
            return total / max(1, len(scores))
        return total / torch.where(counted > 0, counted, 1)
