"""Temperature scaling: one temperature for all logits, which changes no prediction."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..full_precision import to_float64

__all__ = ['fit_temperature', 'minimize_by_lbfgs']


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    r"""Return the temperature T with the smallest cross entropy of ``softmax(logits / T)``.

    Eq. 9 of `Guo et al. <https://arxiv.org/abs/1706.04599>`_. The cross entropy is convex in 1 / T; it is minimized by
    L-BFGS in float64. Above 1 the model was overconfident, below 1 underconfident.

    Args:
        logits (Tensor): Finite, shape (N, C); logarithms of probabilities are such (:func:`log_scores`).
        labels (Tensor): int64, shape (N,).

    Returns:
        float: T > 0.

    Raises:
        ValueError: If there is no smallest one: all images are right, or the logits are no better than chance.

    Example:
        >>> logits = torch.tensor([[4.0, 0.0]]).repeat(4, 1)  # says 98 %, and is right in 3 of 4 cases
        >>> temperature = fit_temperature(logits, torch.tensor([0, 0, 0, 1]))
        >>> (logits[:1] / temperature).softmax(1)
        tensor([[0.7500, 0.2500]])
    """
    logits = to_float64(logits)
    labels = labels.to(logits.device)
    target = logits.gather(1, labels.unsqueeze(1))
    others = logits.scatter(1, labels.unsqueeze(1), -torch.inf)
    if bool((target > others.amax(1, keepdim=True)).all()):
        raise ValueError(
            f'calibrate: expected some images that are answered wrongly, got {len(labels)} right ones: the best '
            'temperature is 0 then, which says 100 % of everything. Use more images, or --scale none.'
        )
    if float((logits.mean(1, keepdim=True) - target).mean()) >= 0:
        raise ValueError(
            f'calibrate: expected scores that are higher for the labels than for other classes, got scores that are '
            f'no better than chance on these {len(labels)} images: the best temperature is infinite. Are the labels '
            'right, and is this the model that you mean?'
        )
    unit = logits.std().clamp_min(1e-12)  # a margin head's logits are 64 times as large
    inverse = torch.ones((), dtype=torch.float64, device=logits.device, requires_grad=True)
    minimize_by_lbfgs(lambda: F.cross_entropy(logits * (inverse / unit), labels), [inverse])
    return float(unit / inverse.detach())


def minimize_by_lbfgs(loss: Callable[[], Tensor], parameters: Sequence[Tensor]) -> None:
    """Minimize a smooth, deterministic loss over parameters, in place."""
    optimizer = torch.optim.LBFGS(
        list(parameters), max_iter=500, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn='strong_wolfe'
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(closure)
