"""PackInputs against mmpretrain's."""

import mmpretrain.datasets.transforms as mmpretrain_transforms
import numpy as np
import pytest
import torch

from hybridcls.registry import TRANSFORMS

IMAGE = np.random.default_rng(0).integers(0, 256, (12, 17, 3), np.uint8)


@pytest.mark.parametrize(
    'image',
    [
        IMAGE,
        IMAGE[:, ::-1],
        IMAGE[2:9, 3:, ::-1],
        [IMAGE, IMAGE[:5, :6]],
        IMAGE[..., 0],
        IMAGE[..., :1],
        IMAGE[..., :2],
        IMAGE.astype(np.float32),
    ],
    ids=['image', 'flipped', 'part', 'views', 'grey', 'one channel', 'two channels', 'floats'],
)
def test_the_tensors_are_those_of_mmpretrain(image):
    record = dict(img=image, gt_label=3, img_path='a.jpg', img_shape=(12, 17), more=1)
    packed = TRANSFORMS.build(dict(type='hybridcls.PackInputs'))(dict(record))
    expected = mmpretrain_transforms.PackInputs()(dict(record))
    assert packed.keys() == expected.keys()
    for own, other in zip(packed['inputs'], expected['inputs'], strict=True):  # planes, or views
        assert own.dtype == other.dtype
        assert own.is_contiguous()
        assert torch.equal(own, other)
    assert packed['data_samples'].to_dict() == expected['data_samples'].to_dict()
