"""Heads, which define the training loss and the predictions of an embedding."""

from .adaface_head import AdaFaceHead
from .arcface_head import ArcFaceHead
from .classification_head import ClassificationHead
from .cosface_head import CosFaceHead
from .embedding_head import EmbeddingHead
from .evidential_head import EvidentialHead
from .linear_head import LinearHead
from .margin_head import MarginHead
from .multi_head import MultiHead
from .multi_label_head import MultiLabelHead
from .supcon_head import SupConHead

__all__ = [
    'AdaFaceHead',
    'ArcFaceHead',
    'ClassificationHead',
    'CosFaceHead',
    'EmbeddingHead',
    'EvidentialHead',
    'LinearHead',
    'MarginHead',
    'MultiHead',
    'MultiLabelHead',
    'SupConHead',
]
