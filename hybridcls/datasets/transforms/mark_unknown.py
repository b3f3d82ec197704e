"""Mark images of categories that the model has no class for."""

from mmcv.transforms import BaseTransform

from hybridcls.registry import TRANSFORMS
from hybridcls.structures import UNKNOWN_LABEL

__all__ = ['MarkUnknown']


@TRANSFORMS.register_module()
class MarkUnknown(BaseTransform):
    """Set the label of every image to -1: it belongs to no known class, and should be rejected.

    Put it in the pipeline of a dataset of unknown images, before ``PackInputs``, and add that dataset to the known ones
    by ``ConcatDataset``. (Images with class names that the model does not have are unknown without it: it is for images
    without labels, or with names of known classes.) Metrics that compare known and unknown images (``OODMetric``) read
    it, those of calibration and selective prediction leave such images out, and ``HeadMetric(known_only=True)`` hides
    them from any other metric. For evaluation only: losses do not accept them.

    Required keys: none. Modified keys: ``gt_label``.

    Example:
        >>> MarkUnknown()(dict(gt_label=7))
        {'gt_label': -1}
    """

    def transform(self, results: dict) -> dict:
        """Set ``gt_label``."""
        results['gt_label'] = UNKNOWN_LABEL
        return results
