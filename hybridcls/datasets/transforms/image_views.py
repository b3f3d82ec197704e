"""Make several augmented views of one image, which is read once and not copied."""

from mmpretrain.datasets.transforms import MultiView

from hybridcls.registry import TRANSFORMS

from .resizing import RandomCropToSize

__all__ = ['ImageViews']


@TRANSFORMS.register_module()
class ImageViews(MultiView):
    """Make views as mmpretrain's ``MultiView`` does, without a deep copy of the image and its record per view.

    A view whose first transform is a :class:`RandomCropToSize` gets a new image from it, and everything after that
    works on the view's own image. A view that begins with another transform gets a copy of the image first, since
    that transform may write to it. Each view has its own record.

    Reads ``img`` (H, W, C); writes ``img``, a list of the views' images in order.

    Args:
        transforms (list[list[dict]]): Pipelines.
        num_views (int | list[int]): How many views each pipeline makes.

    Example:
        >>> import numpy as np
        >>> views = ImageViews([[dict(type='hybridcls.RandomCropToSize', img_size=8)]], num_views=2)
        >>> [view.shape for view in views(dict(img=np.zeros((20, 30, 3), np.uint8)))['img']]
        [(8, 8, 3), (8, 8, 3)]
    """

    def transform(self, results: dict) -> dict:
        """Make the views of ``results['img']``."""
        images = []
        for pipeline in self.transforms:
            first = next(iter(pipeline.transforms), None)
            own = dict(results) if isinstance(first, RandomCropToSize) else {**results, 'img': results['img'].copy()}
            images.append(pipeline(own)['img'])
        results['img'] = images
        return results
