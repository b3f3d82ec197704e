"""ImageViews against mmpretrain's MultiView, from the same random numbers."""

import random

import numpy as np
import pytest
from mmpretrain.datasets.transforms import MultiView

from hybridcls.registry import TRANSFORMS

CROP = [
    dict(type='hybridcls.RandomCropToSize', img_size=16),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(type='hybridcls.FusedColorJitter', brightness=0.4, hue=0.1, grayscale_prob=0.2),
]
FLIP = [
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(type='mmpretrain.RandomErasing', erase_prob=1.0, mode='rand'),
]


def views_of(kind, image, **keys):
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    transform = TRANSFORMS.build(dict(type=kind, **keys))
    return transform(dict(img=image, img_path='a.jpg'))


@pytest.mark.parametrize(
    'keys',
    [
        dict(num_views=2, transforms=[CROP]),
        dict(num_views=[2, 3], transforms=[CROP, FLIP]),
        dict(num_views=1, transforms=[[]]),
    ],
)
def test_the_views_are_those_of_mmpretrain(keys):
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    before = image.copy()
    found, expected = views_of('ImageViews', image, **keys), views_of('mmpretrain.MultiView', image.copy(), **keys)
    assert found.keys() == expected.keys()
    for own, other in zip(found['img'], expected['img'], strict=True):
        np.testing.assert_array_equal(own, other)
    np.testing.assert_array_equal(image, before)  # no view has written to it
    assert issubclass(TRANSFORMS.get('ImageViews'), MultiView)
