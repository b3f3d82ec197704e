"""Resizing in 8 bits against Pillow's own filters."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from hybridcls.datasets.transforms.antialiased_resize import antialiased_resize

PHOTO = load_sample_images().images[1]


@pytest.mark.parametrize(('interpolation', 'filter'), [('bicubic', Image.BICUBIC), ('bilinear', Image.BILINEAR)])
@pytest.mark.parametrize('size', [(192, 192), (33, 50), (600, 700), (427, 640), (1, 1)])
def test_the_pixels_are_pillows(size, interpolation, filter):
    found = antialiased_resize(PHOTO, *size, interpolation)
    expected = np.asarray(Image.fromarray(PHOTO).resize(size[::-1], filter))
    assert found.flags.c_contiguous
    assert np.abs(found.astype(int) - expected).max() <= (1 if size[0] < 427 else 2)


def test_a_part_of_an_image():
    part = PHOTO[10:200, 30:111]
    np.testing.assert_array_equal(antialiased_resize(part, 64, 48), antialiased_resize(part.copy(), 64, 48))


def test_one_channel():
    one = antialiased_resize(PHOTO[..., :1], 20, 30)
    assert one.shape == (20, 30, 1)
    np.testing.assert_array_equal(antialiased_resize(PHOTO[..., 0], 20, 30), one[..., 0])
