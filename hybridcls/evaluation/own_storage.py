"""Copy rows out of a batch into storages of their own."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

__all__ = ['OwnRows', 'own_storage']


class OwnRows:
    """Mixin that copies a metric's rows out of their batch. (Comes before the metric among the base classes.)"""

    results: list

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Process the batch, and copy the rows out of it."""
        kept = len(self.results)
        super().process(data_batch, data_samples)  # type: ignore[misc]
        self.results[kept:] = own_storage(self.results[kept:])


def own_storage(data: Any) -> Any:
    """Copy each tensor in nested data to a storage of its own size, on its device.

    A row of a batch is a view: pickled, for a file or for another process, it includes the whole batch. Tensors that
    fill their storage are not copied. Dicts, lists, tuples and data elements are rebuilt with the same fields; other
    values are returned unchanged.

    Example:
        >>> import torch
        >>> row = torch.zeros(100, 8)[3]
        >>> row.untyped_storage().nbytes(), own_storage(row).untyped_storage().nbytes()
        (3200, 32)
    """
    if isinstance(data, Tensor):
        data = data.detach()
        shares = data.layout == torch.strided and data.untyped_storage().nbytes() > data.nbytes
        return data.clone() if shares else data
    if isinstance(data, BaseDataElement):
        meta, fields = dict(data.metainfo_items()), dict(data.items())
        return data.new(metainfo=own_storage(meta), **own_storage(fields))
    if isinstance(data, dict):
        return {key: own_storage(value) for key, value in data.items()}
    if isinstance(data, tuple) and hasattr(data, '_fields'):
        return type(data)(*map(own_storage, data))
    if isinstance(data, (list, tuple)):
        return type(data)(map(own_storage, data))
    return data
