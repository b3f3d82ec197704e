"""RandomAffine: the warp against torchvision's affine, and the ranges of its draws."""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import affine

from hybridcls.datasets.transforms import RandomAffine
from hybridcls.registry import TRANSFORMS


def a_square(size=33):
    image = np.zeros((size, size, 3), np.uint8)
    image[8:20, 10:18] = (10, 120, 250)
    return image


@pytest.mark.parametrize(
    ('angle', 'slant', 'zoom', 'down', 'right'),
    [
        (0, 0, 1, 0, 0),
        (30, 0, 1, 0, 0),
        (-20, 0, 1.2, 0.1, -0.2),
        (0, 15, 1, 0, 0),
        (25, -10, 0.8, 0.06, 0.12),
    ],
)
def test_warp_equals_torchvision(monkeypatch, angle, slant, zoom, down, right):
    transform = RandomAffine()
    monkeypatch.setattr(transform, '_draw', lambda: (math.radians(angle), math.radians(slant), zoom, down, right))
    image = a_square()
    ours = transform(dict(img=image))['img']
    theirs = affine(
        torch.from_numpy(image).permute(2, 0, 1).float(),
        angle=angle,
        translate=[right * 33, down * 33],
        scale=zoom,
        shear=[-slant, 0.0],
        interpolation=InterpolationMode.BILINEAR,
    )
    error = np.abs(ours.astype(float) - theirs.permute(1, 2, 0).numpy())
    assert error.mean() < 1.0  # edges are resampled with 5 bits in OpenCV
    assert error.max() < 40


def test_zero_amounts_keep_the_image():
    image = a_square()
    np.testing.assert_array_equal(RandomAffine()(dict(img=image))['img'], image)


def test_draws_stay_inside_and_fill_the_ranges():
    transform = RandomAffine(degrees=10, translate=0.2, scale=(0.5, 2.0), shear=5)
    np.random.seed(0)  # noqa: NPY002
    draws = np.array([transform._draw() for _ in range(2000)])
    lows = np.array([-math.radians(10), -math.radians(5), 0.5, -0.2, -0.2])
    highs = np.array([math.radians(10), math.radians(5), 2.0, 0.2, 0.2])
    assert (draws >= lows).all()
    assert (draws <= highs).all()
    assert (draws.min(0) < lows + 0.02 * (highs - lows)).all()
    assert (draws.max(0) > highs - 0.02 * (highs - lows)).all()


def test_seed_determines_the_draws():
    transform = TRANSFORMS.build(dict(type='hybridcls.RandomAffine', degrees=20, translate=0.1, fill=(1, 2, 3)))
    images = []
    for seed in (1, 1, 2):
        np.random.seed(seed)  # noqa: NPY002
        images.append(transform(dict(img=a_square()))['img'])
    np.testing.assert_array_equal(images[0], images[1])
    assert (images[0] != images[2]).any()


def test_pixels_outside_the_image_are_filled(monkeypatch):
    transform = RandomAffine(fill=(1, 2, 3))
    monkeypatch.setattr(transform, '_draw', lambda: (0, 0, 1, 0.5, 0))
    assert transform(dict(img=a_square()))['img'][0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    'wrong', [dict(degrees=-1), dict(translate=2), dict(scale=(1.1, 0.9)), dict(shear=90), dict(interpolation='cubic')]
)
def test_invalid_arguments_are_errors(wrong):
    with pytest.raises(ValueError, match=f'RandomAffine: expected {next(iter(wrong))} '):
        RandomAffine(**wrong)
