"""Draw an activation map over its image."""

import numpy as np
from PIL import Image

__all__ = ['overlay_image']


def overlay_image(image: np.ndarray, values: np.ndarray, edge: int = 160) -> Image.Image:
    """Draw a map over an image, which stays grey where the map is 0 and is coloured from purple to yellow up to 1.

    Args:
        image (np.ndarray): uint8 ``(H, W, 3)``, RGB.
        values (np.ndarray): ``(h, w)`` in [0, 1], of any grid over the whole image.
        edge (int): The longer side of the picture, in pixels. Defaults to 160.

    Example:
        >>> overlay_image(np.zeros((20, 40, 3), np.uint8), np.eye(2)).size
        (160, 80)
    """
    import matplotlib

    height, width = image.shape[:2]
    size = round(width * edge / max(height, width)), round(height * edge / max(height, width))
    grey = np.asarray(Image.fromarray(image).convert('L').resize(size, Image.Resampling.BICUBIC), dtype=np.float64)
    shown = Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    strength = np.clip(np.asarray(shown), 0, 1)
    colour = 255 * matplotlib.colormaps['plasma'](strength)[..., :3]
    share = 0.65 * strength[..., None] ** 0.7
    return Image.fromarray(((1 - share) * grey[..., None] + share * colour).round().astype(np.uint8))
