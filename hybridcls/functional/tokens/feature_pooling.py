"""Pool a stream's feature (a map, tokens or a vector) to one vector an image."""

from torch import Tensor


def pool_feature(feature: Tensor) -> Tensor:
    """Return one vector an image: the mean over a map's positions or over tokens; a vector is unchanged.

    Args:
        feature (Tensor): ``(B, C, H, W)`` map, ``(B, N, C)`` tokens or ``(B, C)`` vectors.

    Returns:
        Tensor: ``(B, C)``, same dtype.

    Raises:
        ValueError: For any other number of dimensions.
    """
    if feature.dim() == 4:
        return feature.mean(dim=(2, 3))
    if feature.dim() == 3:
        return feature.mean(dim=1)
    if feature.dim() == 2:
        return feature
    raise ValueError(
        f'pool_feature: a feature of shape {tuple(feature.shape)} is neither a (B, C, H, W) map, nor '
        '(B, N, C) tokens, nor (B, C) vectors.'
    )
