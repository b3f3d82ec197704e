"""RandAugment against mmpretrain's, operation by operation, from the same random numbers."""

import mmpretrain.datasets.transforms as mmpretrain_transforms
import numpy as np
import pytest
from mmpretrain.datasets.transforms.auto_augment import RANDAUG_POLICIES
from sklearn.datasets import load_sample_images

from hybridcls.registry import TRANSFORMS

PHOTO = np.ascontiguousarray(load_sample_images().images[1][100:180, 200:300, ::-1])
FLAT = np.full((9, 7, 3), 90, np.uint8)
DULL = (PHOTO // 4 + 60).astype(np.uint8)
KEYS = dict(num_policies=2, magnitude_level=9, magnitude_std=0.5, hparams=dict(pad_val=[104, 116, 124]))


def both(image, seed, **keys):
    outputs = []
    for scope in ('hybridcls', 'mmpretrain'):
        augment = TRANSFORMS.build(dict(type=f'{scope}.RandAugment', **KEYS | keys))
        np.random.seed(seed)  # noqa: NPY002
        outputs.append([augment(dict(img=image.copy()))['img'] for _ in range(12)])
        outputs.append(np.random.rand())  # noqa: NPY002
    return outputs


@pytest.mark.parametrize('policy', RANDAUG_POLICIES['timm_increasing'], ids=lambda policy: policy['type'])
@pytest.mark.parametrize('image', [PHOTO, DULL, FLAT], ids=['photo', 'dull', 'flat'])
def test_each_operation_has_the_same_pixels(policy, image):
    found, state, expected, expected_state = both(image, 0, policies=[dict(policy, prob=0.8)], num_policies=1)
    for own, other in zip(found, expected, strict=True):
        assert own.dtype == np.uint8
        np.testing.assert_array_equal(own, other)
    assert state == expected_state  # the same numbers have been drawn


@pytest.mark.parametrize('image', [PHOTO, PHOTO[..., 0], PHOTO[..., :1]], ids=['colour', 'grey', 'one channel'])
def test_the_policies_of_timm(image):
    policies = RANDAUG_POLICIES['timm_increasing']
    if image.ndim == 2 or image.shape[2] == 1:
        policies = [
            policy for policy in policies if policy['type'] in ('Invert', 'Posterize', 'Solarize', 'SolarizeAdd')
        ]
    found, state, expected, expected_state = both(image, 1, policies=policies)
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(own, other)
    assert state == expected_state


def test_a_fixed_magnitude():
    for policy in (
        dict(type='Contrast', magnitude=0.5),
        dict(type='Solarize', thr=100),
        dict(type='Brightness', magnitude=0.5),
    ):
        found, _, expected, _ = both(PHOTO, 2, policies=[policy], num_policies=1)
        for own, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(own, other)


def test_it_is_mmpretrains():
    assert issubclass(TRANSFORMS.get('RandAugment'), mmpretrain_transforms.RandAugment)
