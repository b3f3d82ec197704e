"""Images for display: colours, channels and text size."""

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample

from hybridcls.visualization.prediction_image import ClassNames, enlarge, fitting_text, fitting_text_size, to_rgb_image

RED_BGR = torch.tensor([0, 10, 250], dtype=torch.uint8).view(3, 1, 1).expand(3, 2, 4)


def test_colours_are_right():
    assert to_rgb_image(RED_BGR, is_bgr=True)[0, 0].tolist() == [250, 10, 0]
    assert to_rgb_image(RED_BGR.flip(0), is_bgr=False)[1, 3].tolist() == [250, 10, 0]


@pytest.mark.parametrize(('channels', 'expected'), [(1, [7, 7, 7]), (2, [7, 7, 7]), (3, [9, 8, 7]), (4, [9, 8, 7])])
def test_any_number_of_channels(channels, expected):
    image = torch.arange(7, 7 + channels, dtype=torch.uint8).view(-1, 1, 1).expand(-1, 2, 2)
    shown = to_rgb_image(image, is_bgr=True)
    assert shown.shape == (2, 2, 3)
    assert shown[0, 0].tolist() == expected


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.int32])
def test_other_dtypes_are_scaled_to_the_full_range(dtype):
    image = torch.tensor([[-2, 2], [0, 2]], dtype=dtype).expand(3, 2, 2)
    assert to_rgb_image(image, is_bgr=False)[..., 0].tolist() == [[0, 255], [127, 255]]
    assert to_rgb_image(torch.full((3, 2, 2), 5, dtype=dtype), is_bgr=False).max() == 0


@pytest.mark.parametrize(
    ('size', 'expected'), [((8, 8), (320, 320)), ((28, 30), (336, 360)), ((400, 500), (400, 500)), ((4, 900), (4, 900))]
)
def test_small_images_are_enlarged_by_an_integer_factor(size, expected):
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    large = enlarge(image)
    assert large.shape[:2] == expected
    factor = expected[0] // size[0]
    np.testing.assert_array_equal(large[::factor, ::factor], image)


def test_text_size_fits_the_width():
    sample = DataSample().set_gt_label(0).set_pred_label(1)
    short, long = ClassNames(['cat', 'dog']), ClassNames(['cat', 'a dog of a very long name indeed'])
    wide = ClassNames(['cat', '犬' * 34])
    sizes = [fitting_text_size(320, sample, names) for names in (wide, long, short)]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] <= 14
    assert fitting_text_size(1000, sample, short) == 14
    assert fitting_text_size(10, sample, long) == 5
    assert fitting_text_size(320, DataSample(), None) > 5
    assert fitting_text(320, sample, wide)['size'] == fitting_text_size(320, sample, wide)
    assert fitting_text(320, sample, wide)['family'][:2] == ['monospace', 'DejaVu Sans']
