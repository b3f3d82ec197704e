"""Several data sets as one, whose classes are told apart by their names."""

from collections.abc import Sequence
from typing import Any, Optional, Union

from mmengine.dataset import ConcatDataset as _ConcatDataset

from hybridcls.compat.mmengine import update_metainfo
from hybridcls.registry import DATASETS

from .class_numbering import join_classes

__all__ = ['ConcatDataset']


@DATASETS.register_module()
class ConcatDataset(_ConcatDataset):
    """mmengine's ``ConcatDataset``, of data sets that need not have the same classes.

    The classes are those of the first data set in their order, then what only others have, by name; labels are
    renumbered accordingly, so that a name has one number. A data set whose labels are numbers without names counts in
    this order. Parts without labels take no part in it (and can be marked as unknown by ``MarkUnknown``).

    Args:
        datasets (Sequence[dict | BaseDataset]): The parts. Those that are given built are renumbered in place.
        lazy_init (bool): Look for the images later. Defaults to False.
        ignore_keys (str | list[str], optional): Other keys of ``metainfo`` that may differ: the first data set's is
            taken. Defaults to None.

    Raises:
        ValueError: If ``metainfo`` differs in another key, or a number stands for no class.

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
        # Built by our registry, which knows our names in the configs of other packages, too.
        parts = [dict(type=DATASETS.build, cfg=part) if isinstance(part, dict) else part for part in datasets]
        super().__init__(parts, lazy_init, [*ignored, 'classes', 'class_folders', 'classes_are_numbers'])

    def full_init(self) -> None:
        """Look for the images of all parts, and renumber their classes."""
        super().full_init()
        if not self._joined:
            self._joined = True
            names = join_classes('ConcatDataset', self.datasets)
            if names is not None:
                update_metainfo(self, names.as_metainfo())
