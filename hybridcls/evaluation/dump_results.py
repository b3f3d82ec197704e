"""Predictions in a file, of the size of their numbers."""

from mmengine.evaluator import DumpResults as _DumpResults

from hybridcls.registry import METRICS

from .own_storage import OwnRows

__all__ = ['DumpResults']


@METRICS.register_module()
class DumpResults(OwnRows, _DumpResults):
    """mmengine's ``DumpResults`` with rows that hold their own numbers alone, in the file and between processes.

    mmengine's rows are views of their batch on the CPU, and each of them is pickled with the whole batch. The file is
    the same otherwise: a list of dicts with tensors, one an image, in the order of the data set.

    Args:
        out_file_path (str): Must end in ``.pkl`` or ``.pickle``.
        collect_device (str), collect_dir (str, optional): As in mmengine's BaseMetric.
    """

    directions: dict[str, str] = {}  # it gives no result,
    default_prefix = ''  # and mmengine warns where its names have no prefix
