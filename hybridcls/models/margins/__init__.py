"""Margins on the cosine of the target class, as modules for a margin head."""

from .adaface_margin import AdaFaceMargin
from .arcface_margin import ArcFaceMargin
from .class_wise_margin import ClassWiseMargin
from .combined_margin import CombinedMargin
from .cosface_margin import CosFaceMargin
from .margin import Margin

__all__ = [
    'AdaFaceMargin',
    'ArcFaceMargin',
    'ClassWiseMargin',
    'CombinedMargin',
    'CosFaceMargin',
    'Margin',
]
