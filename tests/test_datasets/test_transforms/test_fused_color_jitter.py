"""FusedColorJitter, pixel by pixel and in distribution, against torchvision's ColorJitter on images of Pillow."""

import math
import random

import numpy as np
import pytest
from PIL import Image
from scipy.stats import kstest
from sklearn.datasets import load_sample_images
from torchvision.transforms import functional

from hybridcls.datasets.transforms.fused_color_jitter import FusedColorJitter, jittered
from hybridcls.registry import TRANSFORMS

PHOTO = load_sample_images().images[0][100:260, 200:420]  # RGB
BY_TORCHVISION = dict(
    brightness=functional.adjust_brightness,
    contrast=functional.adjust_contrast,
    saturation=functional.adjust_saturation,
    hue=functional.adjust_hue,
)
# Levels of 255: rounding against cutting off; OpenCV's hue has 180 or 256 steps, as Pillow's, but other ones.
MOST = dict(brightness=1, contrast=2, saturation=2, hue=14)


def by_torchvision(rgb, operations):
    image = Image.fromarray(rgb)
    for name, factor in operations:
        image = BY_TORCHVISION[name](image, factor)
    return np.asarray(image).astype(int)


def ours(rgb, operations):
    return jittered(np.ascontiguousarray(rgb[..., ::-1]), operations)[..., ::-1].astype(int)


@pytest.mark.parametrize(
    ('name', 'factor'),
    [
        *[(name, factor) for name in ('brightness', 'contrast', 'saturation') for factor in (0.0, 0.6, 1.0, 1.4, 3.0)],
        *[('hue', shift) for shift in (-0.5, -0.1, 0.0, 0.03, 0.1)],
    ],
)
def test_one_operation(name, factor):
    difference = ours(PHOTO, [(name, factor)]) - by_torchvision(PHOTO, [(name, factor)])
    assert np.abs(difference).max() <= MOST[name]
    assert abs(difference.mean()) < 0.8


@pytest.mark.parametrize(
    'order',
    [
        ['brightness', 'contrast', 'saturation', 'hue'],
        ['contrast', 'brightness', 'contrast'],
        ['saturation', 'contrast', 'hue', 'brightness'],
        ['hue', 'saturation', 'brightness', 'contrast'],
    ],
)
@pytest.mark.parametrize('factor', [0.6, 1.4])
def test_operations_in_order_with_the_clipping_of_each(order, factor):
    operations = [(name, 0.05 if name == 'hue' else factor) for name in order]
    bright = np.clip(PHOTO.astype(int) + 60, 0, 255).astype(np.uint8)  # so that much is clipped on the way
    difference = ours(bright, operations) - by_torchvision(bright, operations)
    assert np.abs(difference).mean() < 1.5
    assert np.quantile(np.abs(difference), 0.999) <= 12


def test_the_image_is_not_written_to():
    image = np.ascontiguousarray(PHOTO)
    before = image.copy()
    for operations in ([], [('brightness', 0.5)], [('saturation', 0.5)], [('hue', 0.1)]):
        jittered(image, operations)
    np.testing.assert_array_equal(image, before)


def test_the_parameters_are_those_of_torchvision():
    jitter = TRANSFORMS.build(
        dict(type='FusedColorJitter', brightness=0.4, contrast=0.4, saturation=(0.5, 2), hue=0.1, prob=0.8,
             grayscale_prob=0.2)
    )  # fmt: skip
    random.seed(0)
    draws = [jitter.draw() for _ in range(20000)]
    applied = [operations for operations, _ in draws if operations]
    assert len(applied) == pytest.approx(0.8 * len(draws), abs=4 * math.sqrt(0.16 * len(draws)))
    assert sum(grey for _, grey in draws) == pytest.approx(0.2 * len(draws), abs=4 * math.sqrt(0.16 * len(draws)))
    for name, low, high in (
        ('brightness', 0.6, 1.4),
        ('contrast', 0.6, 1.4),
        ('saturation', 0.5, 2),
        ('hue', -0.1, 0.1),
    ):
        factors = [dict(operations)[name] for operations in applied]
        assert kstest(factors, 'uniform', (low, high - low)).pvalue > 1e-3
        assert low <= min(factors) <= low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) <= max(factors) <= high
    orders = {}
    for operations in applied:
        order = tuple(name for name, _ in operations)
        orders[order] = orders.get(order, 0) + 1
    assert len(orders) == 24
    expected = len(applied) / 24
    assert all(abs(count - expected) < 5 * math.sqrt(expected) for count in orders.values())


def test_grey_is_the_luma():
    jitter = FusedColorJitter(grayscale_prob=1.0)
    found = jitter(dict(img=np.ascontiguousarray(PHOTO[..., ::-1])))['img']
    expected = np.asarray(Image.fromarray(PHOTO).convert('L')).astype(int)
    for channel in range(3):
        assert np.abs(found[..., channel] - expected).max() <= 1


def test_what_is_neutral_is_not_drawn():
    assert FusedColorJitter(hue=0.1).draw()[0][0][0] == 'hue'
    assert FusedColorJitter(brightness=(1, 1)).draw() == ([], False)


@pytest.mark.parametrize(
    ('keys', 'words'),
    [
        (dict(brightness=-1), 'expected brightness in .*got -1'),
        (dict(contrast=(1.4, 0.6)), r'expected contrast to be a range in \[0, inf\], got \(1.4, 0.6\)'),
        (dict(hue=0.6), 'hue'),
        (dict(prob=2), 'expected prob in .*got 2'),
    ],
)
def test_wrong_settings(keys, words):
    with pytest.raises(ValueError, match=words):
        FusedColorJitter(**keys)
