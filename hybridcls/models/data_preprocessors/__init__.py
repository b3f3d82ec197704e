"""Data preprocessors, which convert a batch of the data loader to the input of the model."""

from .device_augment import DeviceAugment
from .hybrid_data_preprocessor import HybridDataPreprocessor

__all__ = [
    'DeviceAugment',
    'HybridDataPreprocessor',
]
