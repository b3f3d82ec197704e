"""mmpretrain's bridge to Albumentations, which says how to install it."""

from importlib.util import find_spec
from typing import Any

from mmpretrain.datasets import Albumentations as _Albumentations

from hybridcls.registry import TRANSFORMS

__all__ = ['Albumentations']


@TRANSFORMS.register_module(['Albumentations', 'Albu'])
class Albumentations(_Albumentations):
    """mmpretrain's ``Albumentations`` (also ``Albu``).

    Raises:
        ImportError: If the package is not installed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if find_spec('albumentations') is None:
            raise ImportError(
                'Albumentations: expected the package albumentations, got none. pip install albumentations, or take '
                'the transform out of the pipeline.'
            )
        super().__init__(*args, **kwargs)
