"""Concatenate datasets and match their classes by name."""

from collections.abc import Sequence
from typing import Any, Optional, Union

from mmengine.dataset import ConcatDataset as _ConcatDataset

from hybridcls.compat.mmengine import update_metainfo
from hybridcls.registry import DATASETS

from .class_numbering import join_classes

__all__ = ['ConcatDataset']


@DATASETS.register_module()
class ConcatDataset(_ConcatDataset):
    """mmengine's ``ConcatDataset`` for datasets with different classes.

    The classes are those of the first dataset in their order, then those that only others have, by name; labels are
    renumbered to give each name one number. A dataset with numbers but no names uses the numbers of this order. Parts
    without labels are left alone (``MarkUnknown`` can mark them as unknown).

    Args:
        datasets (Sequence[dict | BaseDataset]): The parts. Built ones are renumbered in place.
        lazy_init (bool): List the images later. Defaults to False.
        ignore_keys (str | list[str], optional): Other keys of ``metainfo`` that may differ: the first dataset's value
            is used. Defaults to None.

    Raises:
        ValueError: If ``metainfo`` differs in another key, or a label is not the number of a class.

    Example:
        >>> from hybridcls.datasets import Digits
        >>> both = ConcatDataset([Digits(digits=(3, 7)), Digits(digits=(1, 3))])
        >>> both.metainfo['classes']
        ('3', '7', '1')
    """

    def __init__(
        self,
        datasets: Sequence[Union[dict, Any]],
        lazy_init: bool = False,
        ignore_keys: Optional[Union[str, list[str]]] = None,
    ) -> None:
        self._joined = False
        ignored = [ignore_keys] if isinstance(ignore_keys, str) else list(ignore_keys or [])
        # Built by our registry, which has our names in the configs of other packages, too.
        parts = [dict(type=DATASETS.build, cfg=part) if isinstance(part, dict) else part for part in datasets]
        super().__init__(parts, lazy_init, [*ignored, 'classes', 'class_folders', 'classes_are_numbers'])

    def full_init(self) -> None:
        """List the images of all parts, and renumber their classes."""
        super().full_init()
        if not self._joined:
            self._joined = True
            names = join_classes('ConcatDataset', self.datasets)
            if names is not None:
                update_metainfo(self, names.as_metainfo())
