"""Draw which patches of an image are merged into one token."""

import torch
from torch import Tensor

__all__ = ['draw_token_groups']


def draw_token_groups(image: Tensor, groups: Tensor, border: bool = True) -> Tensor:
    """Paint every group of patches in its mean colour, with a line around it, as figure 4 of the ToMe paper does.

    Args:
        image (Tensor): ``(3, H, W)``, RGB in [0, 1].
        groups (Tensor): ``(h, w)`` int64, a number for each patch, equal within a token. For a transformer with token
            merging: ``merged_tokens(model, images)[-1].merged_index[0, prefix:].reshape(h, w)``.
        border (bool): Draw black lines between the groups. Defaults to True.

    Returns:
        Tensor: ``(3, H, W)``, float32.

    Raises:
        ValueError: If the image is not a multiple of the patch grid.

    Example:
        >>> image = torch.tensor([0., 1., 2., 4.]).div(4).expand(3, 4, 4)
        >>> draw_token_groups(image, torch.tensor([[0, 0, 1, 1]] * 4), border=False)[0, 0]
        tensor([0.1250, 0.1250, 0.7500, 0.7500])
    """
    height, width = image.shape[1:]
    rows, columns = groups.shape
    if height % rows or width % columns:
        raise ValueError(
            f'draw_token_groups: expected an image whose size is a multiple of {rows} x {columns} patches, got '
            f'{height} x {width}.'
        )
    of_pixel = groups.repeat_interleave(height // rows, 0).repeat_interleave(width // columns, 1)
    numbers = of_pixel.flatten()
    pixels = image.float().flatten(1)
    sums = pixels.new_zeros(3, int(numbers.max()) + 1).index_add_(1, numbers, pixels)
    means = sums / numbers.bincount(minlength=sums.shape[1]).clamp_min(1)
    painted = means[:, numbers].unflatten(1, (height, width))
    if border:
        edge = torch.zeros_like(of_pixel, dtype=torch.bool)
        edge[1:] |= of_pixel[1:] != of_pixel[:-1]
        edge[:, 1:] |= of_pixel[:, 1:] != of_pixel[:, :-1]
        painted = painted.masked_fill(edge, 0.0)
    return painted
