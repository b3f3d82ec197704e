"""Grad-CAM: the evidence for a class at each position of a feature map."""

from torch import Tensor

__all__ = ['grad_cam']


def grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    r"""Return the class activation map of `Grad-CAM <https://arxiv.org/abs/1610.02391>`_, equations 1 and 2.

    .. math::
        \alpha_k = \frac{1}{h w} \sum_{ij} \frac{\partial y}{\partial A^k_{ij}}, \quad
        L = \mathrm{relu} \left( \sum_k \alpha_k A^k \right)

    Args:
        activations (Tensor): Feature maps A, ``(B, C, h, w)``.
        gradients (Tensor): Those of the score y of a class, the same shape.

    Returns:
        Tensor: ``(B, h, w)``, >= 0; not normalized: 0 everywhere where no place speaks for the class.

    Example:
        >>> import torch
        >>> maps = torch.tensor([[[[1.0, 3.0]], [[2.0, 0.0]]]])  # two channels of 1 x 2
        >>> grad_cam(maps, torch.tensor([[[[1.0, 0.0]], [[-1.0, -1.0]]]]))  # weights 0.5 and -1
        tensor([[[0.0000, 1.5000]]])
    """
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    return (weights * activations).sum(1).relu()
