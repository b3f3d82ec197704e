"""PackInputs against mmpretrain's."""

import mmpretrain.datasets.transforms as mmpretrain_transforms
import numpy as np
import pytest
import torch
from PIL import Image

from hybridcls.registry import DATASETS, TRANSFORMS

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


def test_the_group_of_a_list_of_images_reaches_the_predictions(tmp_path):
    """Metrics with intervals read it."""
    Image.new('RGB', (8, 8)).save(tmp_path / 'a.png')
    (tmp_path / 'list.csv').write_text('path,label,group\na.png,cat,patient 7\n')
    pipeline = [TRANSFORMS.build(dict(type=name)) for name in ('LoadImage', 'PackInputs')]
    dataset = DATASETS.build(
        dict(type='ImageFolder', data_root=str(tmp_path), ann_file='list.csv', pipeline=pipeline, test_mode=True)
    )
    assert dataset[0]['data_samples'].to_dict()['group'] == 'patient 7'
