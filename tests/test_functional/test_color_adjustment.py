"""Colours of a batch against torchvision, image by image."""

import pytest
import torch
from torchvision.transforms import functional

from hybridcls.functional import color_adjustment

IMAGES = torch.rand(5, 3, 9, 11, generator=torch.Generator().manual_seed(0))
IMAGES[0] = IMAGES[0, :1]  # grey: no hue
IMAGES[1] = (IMAGES[1] > 0.5).float()  # the corners of the cube, where two channels are the largest
FACTORS = torch.tensor([0.0, 0.4, 1.0, 1.6, 3.0])


@pytest.mark.parametrize(
    ('name', 'factors'),
    [
        ('brightness', FACTORS),
        ('contrast', FACTORS),
        ('saturation', FACTORS),
        ('hue', torch.tensor([0.3, -0.5, 0.0, 0.1, -0.2])),
    ],
)
def test_each_image_by_its_own_factor(name, factors):
    found = getattr(color_adjustment, f'adjust_{name}')(IMAGES, factors)
    for image, factor, own in zip(IMAGES, factors, found, strict=True):
        expected = getattr(functional, f'adjust_{name}')(image, factor.item())
        torch.testing.assert_close(own, expected, atol=2e-5, rtol=0)


def test_grey_is_torchvisions():
    torch.testing.assert_close(color_adjustment.grayscale(IMAGES), functional.rgb_to_grayscale(IMAGES))
