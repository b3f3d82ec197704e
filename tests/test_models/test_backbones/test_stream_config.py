"""From a stream's config to a stream of timm or of a registered backbone."""

import pytest
import torch
from torch import nn

from hybridcls.models.backbones import TimmStream
from hybridcls.models.backbones.registered_stream import RegisteredStream
from hybridcls.models.backbones.stream_config import build_stream


class Toy(nn.Module):
    def __init__(self, width=4, img_size=None):
        super().__init__()
        self.img_size = img_size
        self.conv = nn.Conv2d(3, width, 4, stride=4)

    def forward(self, x):
        return self.conv(x)


def test_a_model_name_is_timms_and_the_rest_is_filled_in():
    cfg = dict(model_name='test_vit', drop_path_rate=None)
    stream = build_stream('vit', cfg, (64, 64), 0.3, True)
    assert type(stream) is TimmStream
    assert stream.model.patch_embed.img_size == (64, 64)
    assert stream.model.grad_checkpointing
    assert stream.model.blocks[-1].drop_path1.drop_prob == pytest.approx(0.3)
    assert cfg == dict(model_name='test_vit', drop_path_rate=None)  # the config is left as it was


def test_a_type_is_a_registered_backbone():
    stream = build_stream(
        'cnn', dict(type=Toy, width=6, output='vector', mean=(0, 0, 0), std=(1, 1, 1)), 32, 0.0, False
    )
    assert type(stream) is RegisteredStream
    assert (stream.model.img_size, stream.output, stream.out_channels) == (32, 'vector', 6)
    assert stream(torch.rand(2, 3, 32, 32)).shape == (2, 6)
    assert build_stream('cnn', dict(type=Toy, img_size=16), 32, 0.0, False).model.img_size == 16


def test_what_cannot_be_built():
    with pytest.raises(TypeError, match=r"vit needs model_name='...' .* it has no keys"):
        build_stream('vit', {}, None, 0.0, False)
    with pytest.raises(TypeError, match=r"cnn \(Toy\): unknown key 'widht'. Did you mean 'width'"):
        build_stream('cnn', dict(type=Toy, widht=3), None, 0.0, False)
    with pytest.raises(ValueError, match='Toy, the cnn stream, has no with_cp'):
        build_stream('cnn', dict(type=Toy), None, 0.0, True)
