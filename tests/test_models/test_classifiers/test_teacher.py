"""A teacher sees the images as its own data preprocessor would have made them."""

import pytest
import torch

from hybridcls.models.classifiers import Teacher
from hybridcls.registry import MODELS

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def classifier(**preprocessor):
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='hybridcls.HybridClassifier',
            backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=4, stem_channels=4),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearHead', num_classes=3),
            data_preprocessor=preprocessor or None,
        )
    )


@pytest.mark.parametrize(
    'preprocessor',
    [
        dict(mean=MEAN, std=STD),
        dict(type='ClsDataPreprocessor', mean=MEAN, std=STD, to_rgb=True),
    ],
)
def test_normalized_as_it_was_trained(preprocessor):
    images = torch.rand(2, 3, 32, 32)
    filled, written = Teacher(classifier()), Teacher(classifier(**preprocessor))
    for answer, expected in zip(written(images), filled(images), strict=True):
        torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5)
