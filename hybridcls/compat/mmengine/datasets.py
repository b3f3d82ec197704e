"""mmengine's datasets hold their images as bytes and their ``metainfo`` behind a copy; here both can be changed."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.dataset import BaseDataset

__all__ = ['rewrite_data', 'update_metainfo', 'whole_dataset']


def rewrite_data(dataset: 'BaseDataset', change: Callable[[dict], dict]) -> None:
    """Replace the information of each image, in place; the order and the number of images stay.

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
    """Set entries of a dataset's or wrapper's ``metainfo`` (which returns a copy); None takes one out."""
    metainfo = getattr(dataset, '_metainfo', None)
    if isinstance(metainfo, dict):
        metainfo.update(values)
        for key in [key for key, value in values.items() if value is None]:
            del metainfo[key]


def whole_dataset(dataset: Any) -> Any:
    """Return the dataset that a dataloader's ``num_batch_per_epoch`` cuts short, or ``dataset`` itself."""
    from mmengine.runner.runner import _SlicedDataset

    return dataset._dataset if isinstance(dataset, _SlicedDataset) else dataset
