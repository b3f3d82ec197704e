"""Images of categories that the model has no class for."""

from mmcv.transforms import BaseTransform

from hybridcls.registry import TRANSFORMS
from hybridcls.structures import UNKNOWN_LABEL

__all__ = ['MarkUnknown']


@TRANSFORMS.register_module()
class MarkUnknown(BaseTransform):
    """Give every image the label -1: it is of none of the known classes, and should be rejected.

    For the pipeline of a dataset of unknown images, before ``PackInputs``; joined with the known ones by
    ``ConcatDataset``. (Images whose class names are none of the model's are unknown without it: it is for images that
    have no labels, or the names of known classes.) Metrics that compare known and unknown (``OODMetric``) read it,
    those of calibration and selective prediction leave such images out, and ``MetricOf(known_only=True)`` hides them
    from any other. For evaluation only: a loss has no use for them.

    Required keys: none. Modified keys: ``gt_label``.

    Example:
        >>> MarkUnknown()(dict(gt_label=7))
        {'gt_label': -1}
    """

    def transform(self, results: dict) -> dict:
        """Set ``gt_label``."""
        results['gt_label'] = UNKNOWN_LABEL
        return results
