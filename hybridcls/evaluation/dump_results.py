"""Write predictions to a file, without the batches that they are views of."""

from mmengine.evaluator import DumpResults as _DumpResults

from hybridcls.registry import METRICS

from .own_storage import OwnRows

__all__ = ['DumpResults']


@METRICS.register_module()
class DumpResults(OwnRows, _DumpResults):
    """mmengine's ``DumpResults`` with small rows, in the file and between processes.

    mmengine's rows are views of their batch on the CPU, and each of them is pickled with the whole batch. Otherwise
    the file is the same: a list of dicts with tensors, one for each image, in the order of the dataset.

    Args:
        out_file_path (str): Must end in ``.pkl`` or ``.pickle``.
        collect_device (str), collect_dir (str, optional): As in mmengine's BaseMetric.
    """

    directions: dict[str, str] = {}  # it has no result,
    default_prefix = ''  # and mmengine warns without a prefix
