"""CenterCropToSize, RandomCropToSize, ResizeToSize: against timm's evaluation transform and mmpretrain's crops."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from hybridcls.datasets.transforms import CenterCropToSize, RandomCropToSize, ResizeToSize
from hybridcls.registry import TRANSFORMS

ALL = [RandomCropToSize, CenterCropToSize, ResizeToSize]


def smooth_image(height, width, seed=0):
    few = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(few, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize('kind', ALL)
@pytest.mark.parametrize('size', [16, (16, 16), [24, 16], (7, 40)])
@pytest.mark.parametrize('shape', [(8, 8), (49, 49), (30, 61), (61, 30), (1, 1), (5, 200)])
def test_output_has_img_size(kind, size, shape):
    out = kind(img_size=size)(dict(img=smooth_image(*shape)))
    expected = (size, size) if isinstance(size, int) else tuple(size)
    assert out['img'].shape == (*expected, 3)
    assert tuple(out['img_shape'][:2]) == expected
    assert out['img'].dtype == np.uint8


@pytest.mark.parametrize('shape', [(300, 500), (500, 300), (256, 256)])
@pytest.mark.parametrize(('crop_pct', 'mode'), [(0.875, 'crop'), (0.9, 'crop'), (1.0, 'crop'), (0.95, 'squash')])
def test_center_crop_equals_timm(shape, crop_pct, mode):
    image = smooth_image(*shape)
    ours = CenterCropToSize(img_size=224, crop_pct=crop_pct, mode=mode)(dict(img=image))['img']
    timms = create_transform(
        224,
        is_training=False,
        interpolation='bicubic',
        crop_pct=crop_pct,
        crop_mode='squash' if mode == 'squash' else 'center',
        mean=(0, 0, 0),
        std=(1, 1, 1),
    )
    theirs = timms(Image.fromarray(image)).permute(1, 2, 0) * 255
    # Half a pixel of the crop may be rounded to the other side.
    assert (torch.from_numpy(ours).float() - theirs).abs().mean() < 1.0


def test_squash_with_crop_pct_1_is_a_resize():
    image = smooth_image(30, 61)
    squashed = CenterCropToSize(img_size=16, crop_pct=1.0, mode='squash', backend='cv2', interpolation='bilinear')
    np.testing.assert_array_equal(
        squashed(dict(img=image))['img'], cv2.resize(image, (16, 16), interpolation=cv2.INTER_LINEAR)
    )


def test_random_crop_equals_random_resized_crop():
    image = smooth_image(60, 50)
    np.random.seed(3)  # noqa: NPY002
    ours = RandomCropToSize(img_size=(20, 24), crop_ratio_range=(0.2, 0.6), ratio=(0.9, 1.1))(dict(img=image))['img']
    np.random.seed(3)  # noqa: NPY002
    theirs = TRANSFORMS.build(
        dict(type='RandomResizedCrop', scale=(20, 24), crop_ratio_range=(0.2, 0.6), aspect_ratio_range=(0.9, 1.1))
    )
    np.testing.assert_array_equal(ours, theirs(dict(img=image))['img'])


@pytest.mark.parametrize('kind', ALL)
@pytest.mark.parametrize(
    ('size', 'error'),
    [
        (0, ValueError),
        (-3, ValueError),
        ('224', TypeError),
        (22.4, TypeError),
        ((3, 4, 5), TypeError),
        ((8, 0), ValueError),
        (None, TypeError),
    ],
)
def test_invalid_size_is_an_error(kind, size, error):
    with pytest.raises(error, match=f'{kind.__name__}: expected img_size '):
        kind(img_size=size)


@pytest.mark.parametrize(
    ('kind', 'wrong', 'message'),
    [
        (RandomCropToSize, dict(crop_ratio_range=(0.9, 0.1)), r'expected crop_ratio_range as .* got \(0.9, 0.1\)'),
        (RandomCropToSize, dict(crop_ratio_range=(0.5, 1.5)), 'expected crop_ratio_range as 0'),
        (RandomCropToSize, dict(ratio=(0, 1)), 'expected ratio as 0'),
        (CenterCropToSize, dict(crop_pct=0), r'expected crop_pct in .* got 0'),
        (CenterCropToSize, dict(mode='squeeze'), "got 'squeeze'"),
    ],
)
def test_invalid_arguments_are_errors(kind, wrong, message):
    with pytest.raises(ValueError, match=message):
        kind(img_size=8, **wrong)


@pytest.mark.parametrize('kind', ALL)
def test_repr_has_the_size(kind):
    assert '(8, 9)' in repr(kind(img_size=(8, 9)))


def test_torch_crops_as_pillow_does():
    """The same part of the image, the same pixels to one level; the image is not written to."""
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    image = np.kron(image[:18, :24], np.ones((5, 5, 1), np.uint8))
    before = image.copy()
    found = {}
    for backend in ('pillow', 'torch'):
        np.random.seed(5)  # noqa: NPY002
        crop = RandomCropToSize(img_size=(16, 24), interpolation='bicubic', backend=backend)
        found[backend] = crop(dict(img=image))
    assert np.abs(found['pillow']['img'].astype(int) - found['torch']['img']).max() <= 2
    assert found['torch']['img_shape'] == found['pillow']['img_shape']
    np.testing.assert_array_equal(image, before)
    with pytest.raises(ValueError, match=r"backend='torch'\): expected interpolation to be one of"):
        RandomCropToSize(img_size=16, interpolation='lanczos', backend='torch')
    with pytest.raises(ValueError, match=r"expected backend to be one of .* got 'cv3'"):
        RandomCropToSize(img_size=16, backend='cv3')
