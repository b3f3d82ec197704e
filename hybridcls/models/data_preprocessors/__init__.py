"""Data preprocessors: from a batch of the data loader to the batch of the model."""

from .device_augment import DeviceAugment
from .hybrid_data_preprocessor import HybridDataPreprocessor

__all__ = [
    'DeviceAugment',
    'HybridDataPreprocessor',
]
