"""Change data of mmengine's datasets that they store as bytes, or return as copies."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.dataset import BaseDataset

__all__ = ['rewrite_data', 'update_metainfo', 'whole_dataset']


def rewrite_data(dataset: 'BaseDataset', change: Callable[[dict], dict]) -> None:
    """Replace the record of each image in place; the order and the number of images stay.

    Whoever reads the dataset afterwards, workers that start later included, sees the new information.

    Args:
        dataset (BaseDataset): It is fully initialized if it is not yet.
        change: Takes and returns the dict of an image.
    """
    dataset.full_init()
    data = [change(dataset.get_data_info(index)) for index in range(len(dataset))]
    dataset.data_list = data
    if dataset.serialize_data and data:  # it is held as bytes, and empties data_list
        dataset.data_bytes, dataset.data_address = dataset._serialize_data()


def update_metainfo(dataset: Any, values: dict) -> None:
    """Set entries of the ``metainfo`` of a dataset or wrapper (which returns a copy); None removes one."""
    metainfo = getattr(dataset, '_metainfo', None)
    if isinstance(metainfo, dict):
        metainfo.update(values)
        for key in [key for key, value in values.items() if value is None]:
            del metainfo[key]


def whole_dataset(dataset: Any) -> Any:
    """Return the dataset behind a dataloader's ``num_batch_per_epoch`` slice, or ``dataset`` itself."""
    from mmengine.runner.runner import _SlicedDataset

    return dataset._dataset if isinstance(dataset, _SlicedDataset) else dataset
