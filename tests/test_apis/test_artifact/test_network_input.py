"""What the pipeline gives a network is seen, not assumed."""

import numpy as np
import pytest
import torch
from trained_checkpoints import PIPELINE, VIT, config_of, write_checkpoint

from hybridcls.apis.artifact.network_input import read_network_input
from hybridcls.apis.trained_model import read_trained_model

RESIZE, PACK = dict(type='ResizeToSize', img_size=(64, 80)), dict(type='PackInputs')


def opened(tmp_path, pipeline, **preprocessor):
    cfg = config_of(dict(VIT, img_size=(64, 80)), dict(type='LinearHead', num_classes=4))
    cfg['test_dataloader']['dataset']['pipeline'] = pipeline
    if preprocessor:
        cfg['model']['data_preprocessor'] = dict(type='HybridDataPreprocessor', **preprocessor)
    return read_trained_model(write_checkpoint(tmp_path / 'epoch_1.pth', cfg)[0])


@pytest.mark.parametrize('to_rgb', [True, False])
def test_colours_reach_the_model_as_in_a_test(tmp_path, to_rgb):
    trained = opened(tmp_path, [dict(type='LoadImage'), RESIZE, PACK], to_rgb=to_rgb)
    given = read_network_input(trained)
    assert given.shape == (64, 80, 3) and given.is_bgr
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 80, 3), dtype=np.uint8)
    seen = given.preprocessed(trained.model, torch.from_numpy(images)).numpy()
    order = [0, 1, 2] if to_rgb else [2, 1, 0]
    np.testing.assert_allclose(seen, images.transpose(0, 3, 1, 2)[:, order] / np.float32(255), rtol=0, atol=1e-7)
    packed = trained.pipeline(dict(img=np.ascontiguousarray(images[0][..., ::-1])))['inputs']
    assert torch.equal(given.packed(images)[0], packed)
    assert np.array_equal(given.unpacked([packed]), images[:1])


@pytest.mark.parametrize(
    'pipeline, reason',
    [
        ([dict(type='LoadImage'), dict(type='ResizeEdge', scale=64), PACK], 'one size, got'),
        ([dict(type='LoadImage'), RESIZE, dict(type='Normalize', mean=[0] * 3, std=[1] * 3), PACK], 'uint8 images'),
        ([dict(type='LoadImage'), dict(type='ImageViews', num_views=2, transforms=[[RESIZE]]), PACK], 'several views'),
    ],
)
def test_what_no_graph_begins_with_is_refused(tmp_path, pipeline, reason):
    trained = opened(tmp_path, pipeline)
    with pytest.raises(ValueError, match=f'export: .*{reason}'):
        read_network_input(trained)


def test_grey_images_have_one_channel(tmp_path):
    cfg = config_of(dict(VIT, vit=dict(model_name='test_vit', in_chans=1)), dict(type='LinearHead', num_classes=4))
    cfg['test_dataloader']['dataset']['pipeline'] = [dict(type='LoadImage', color_type='grayscale'), *PIPELINE[1:]]
    trained = read_trained_model(write_checkpoint(tmp_path / 'epoch_1.pth', cfg)[0])
    assert read_network_input(trained).shape == (64, 64, 1)
