"""Corruptions: what each does to known images, that severities rise, and that noise is the same everywhere."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_image

from hybridcls.datasets.transforms import CORRUPTIONS, Corrupt


def scene(size=64):
    """Smooth colours with edges."""
    rows, columns = np.mgrid[:size, :size]
    image = np.stack([rows * 255 // size, columns * 255 // size, 40 + 120 * ((rows // 8 + columns // 8) % 2)], 2)
    return image.astype(np.uint8)


def corrupted(kind, severity, image=None, **keys):
    image = scene() if image is None else image
    before = image.copy()
    result = Corrupt(kind, severity, **keys)(dict(img=image, sample_idx=3))['img']
    np.testing.assert_array_equal(image, before)  # a cache may hold it
    assert result.dtype == np.uint8
    assert result.shape == image.shape
    return result


@pytest.mark.parametrize('kind', CORRUPTIONS)
def test_severities_rise_on_a_photograph(kind):
    photograph = load_sample_image('flower.jpg')[100:324, 200:424].copy()
    each = [corrupted(kind, severity, photograph) for severity in range(1, 6)]
    changes = [np.abs(image - photograph.astype(float)).mean() for image in each]
    assert changes == sorted(changes)
    assert changes[0] > 0.3
    assert len({*changes}) == 5


def test_blur_is_gaussian_and_proportional_to_the_size():
    blurred = corrupted('blur', 5)
    sigma = 6 * 64 / 224
    expected = gaussian_filter(scene().astype(float), (sigma, sigma, 0), mode='mirror', radius=(5, 5, 0))
    assert np.abs(blurred - expected).max() <= 1
    tiny = corrupted('blur', 5, scene(2))
    assert tiny.shape == (2, 2, 3)
    assert corrupted('blur', 1, scene(1)).shape == (1, 1, 3)


def test_noise_has_its_deviation_and_is_drawn_by_image():
    grey = np.full((200, 200, 3), 128, np.uint8)
    noisy = corrupted('noise', 1, grey)
    assert (noisy.astype(float) - 128).std() == pytest.approx(0.08 * 255, rel=0.02)
    np.testing.assert_array_equal(noisy, corrupted('noise', 1, grey))
    other = Corrupt('noise', 1)(dict(img=grey, sample_idx=4))['img']
    assert (other != noisy).mean() > 0.9
    assert (corrupted('noise', 1, grey, seed=1) != noisy).mean() > 0.9


def test_jpeg_has_its_quality():
    coded = cv2.imencode('.jpg', scene(), [cv2.IMWRITE_JPEG_QUALITY, 7])[1]
    np.testing.assert_array_equal(corrupted('jpeg', 5), cv2.imdecode(coded, cv2.IMREAD_COLOR))


def test_brightness_and_resolution():
    np.testing.assert_array_equal(corrupted('brightness', 5), np.minimum(2 * scene().astype(int), 255))
    coarse = corrupted('resolution', 5)
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255  # of one pixel: a quarter of the size has none of it
    assert corrupted('resolution', 5, stripes).std() < 5
    assert np.abs(coarse.astype(int) - scene()).mean() < 40


def test_grey_images_and_no_corruption():
    assert corrupted('resolution', 2, scene()[..., 0].copy()).shape == (64, 64)
    assert corrupted('jpeg', 2, scene()[..., :1].copy()).shape == (64, 64, 1)
    np.testing.assert_array_equal(corrupted(None, 1), scene())


def test_wrong_settings_and_images_are_named():
    with pytest.raises(ValueError, match=r"^Corrupt: expected kind to be one of .* got 'blurr'. Did you mean 'blur'"):
        Corrupt('blurr')
    with pytest.raises(ValueError, match=r'^Corrupt: expected severity in \[1, 5\], got 6'):
        Corrupt('blur', 6)
    with pytest.raises(TypeError, match=r'^Corrupt: expected an image of 8 bits \(uint8\), got float32'):
        Corrupt('blur')(dict(img=scene().astype(np.float32)))
    with pytest.raises(TypeError, match=r'got list'):
        Corrupt('blur')(dict(img=[scene()]))
