"""RandomErasing: places and pixels have the distribution of mmpretrain's."""

import random

import numpy as np
import pytest
from mmpretrain.datasets.transforms import RandomErasing as Reference
from scipy.stats import ks_2samp, norm

from hybridcls.datasets.transforms.random_erasing import RandomErasing
from hybridcls.registry import TRANSFORMS

WHOLE = dict(erase_prob=1.0, min_area_ratio=1.0, max_area_ratio=1.0, aspect_range=(1.0, 1.0))
NOISE = dict(mode='rand', fill_color=[104, 116, 124], fill_std=[57, 40, 80])


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002


def test_the_name_is_ours_and_the_arguments_are_mmpretrains():
    options = dict(erase_prob=0.25, mode='rand', fill_color=[104, 116, 124], fill_std=[57, 57, 58])
    built = TRANSFORMS.build(dict(type='RandomErasing', **options))
    assert type(built) is RandomErasing
    assert type(TRANSFORMS.build(dict(type='mmpretrain.RandomErasing', **options))) is Reference
    assert 'fill_std=(57, 57, 58)' in repr(built)


@pytest.mark.parametrize(('height', 'width'), [(96, 96), (40, 150)])
def test_places_have_the_distribution_of_mmpretrain(height, width):
    options = dict(erase_prob=1.0, min_area_ratio=0.02, max_area_ratio=0.9, aspect_range=(0.3, 5.0))
    ours, theirs = RandomErasing(**options), Reference(**options)
    drawn = np.array([ours.draw(height, width) for _ in range(4000)])
    expected = np.array([theirs.random_patch(height, width) for _ in range(4000)])
    assert drawn.min() == expected.min() == 0
    assert (drawn.max(0) <= [height, width, height, width]).all()
    for column in range(4):
        assert ks_2samp(drawn[:, column], expected[:, column]).pvalue > 1e-3


def test_it_happens_as_often_as_it_should():
    assert np.mean([RandomErasing(0.25).draw(8, 8) is not None for _ in range(4000)]) == pytest.approx(0.25, abs=0.03)
    assert RandomErasing(0.0).draw(8, 8) is None


@pytest.mark.parametrize('options', [NOISE, dict(mode='rand'), dict(fill_color=(1.9, 2, 255)), dict(fill_color=0)])
def test_pixels_have_the_distribution_of_mmpretrain(options):
    image = np.full((300, 300, 3), 9, np.uint8)
    ours = RandomErasing(**WHOLE, **options)(dict(img=image))['img']
    theirs = Reference(**WHOLE, **options)(dict(img=image.copy()))['img']
    assert ours.dtype == np.uint8
    for channel in range(3):
        share = [np.bincount(one[..., channel].ravel(), minlength=256).cumsum() / 9e4 for one in (ours, theirs)]
        assert np.abs(share[0] - share[1]).max() < 0.01
    assert (image == 9).all(), 'it is not written to'


def test_noise_by_the_formula():
    """The share of pixels up to v is that of a normal number below v + 1, also where it is cut at 0 and 255."""
    image = RandomErasing(**WHOLE, **NOISE)(dict(img=np.zeros((400, 400, 3), np.uint8)))['img']
    for channel, (mean, std) in enumerate(zip(NOISE['fill_color'], NOISE['fill_std'], strict=True)):
        share = np.bincount(image[..., channel].ravel(), minlength=256).cumsum() / 1.6e5
        assert np.abs(share[:255] - norm.cdf(np.arange(1, 256), mean, std)).max() < 0.005
    flat = image.reshape(-1, 3).astype(float)
    assert np.abs(np.corrcoef(flat.T) - np.eye(3)).max() < 0.02
    assert abs(np.corrcoef(flat[:-1, 0], flat[1:, 0])[0, 1]) < 0.02


def test_the_same_seed_gives_the_same_noise_and_the_rest_of_the_image_stays():
    image = np.full((64, 48, 3), 200, np.uint8)
    erasing = RandomErasing(1.0, 0.1, 0.3, mode='rand')
    results = []
    for seed in (1, 1, 2):
        random.seed(seed)
        results.append(erasing(dict(img=image))['img'])
    assert (results[0] == results[1]).all()
    assert (results[0] != results[2]).any()
    random.seed(1)
    top, left, height, width = erasing.draw(64, 48)
    results[0][top : top + height, left : left + width] = 200
    assert (results[0] == 200).all()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(mode='random'), r"expected mode to be one of \['const', 'rand'\]"),
        (dict(erase_prob=2.0), r'expected erase_prob in \[0, 1\], got 2'),
        (dict(min_area_ratio=0.5), r'expected min_area_ratio in \[0, 0.4\], got 0.5'),
        (dict(aspect_range=(2.0, 1.0)), 'expected aspect_range to be'),
        (dict(aspect_range=0), 'expected aspect_range to be'),
        (dict(fill_color=(1, 2)), 'expected fill_color to be a number or three of them'),
        (dict(fill_color=300), r'expected fill_color in \[0, 255\], got 300'),
    ],
)
def test_wrong_arguments_are_sentences(options, message):
    with pytest.raises(ValueError, match=f'RandomErasing: {message}'):
        RandomErasing(**options)
