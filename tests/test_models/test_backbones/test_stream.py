"""What all streams share: their output's form and the normalization in front of their model."""

import pytest
import torch
from torch import nn

from hybridcls.models.backbones.stream import Stream
from hybridcls.registry import MODELS


class Toy(Stream):
    def __init__(self, channels=3, output='map', mean=None, std=None):
        super().__init__(output)
        self.model = nn.Conv2d(channels, 2, 1)
        self._normalize_by(mean, std, (0.1, 0.2, 0.6), (0.5, 0.25, 0.75))


def test_normalization_of_any_number_of_channels():
    colour = Toy()
    assert colour.takes_unit_range
    torch.testing.assert_close(colour.normalized(torch.full((1, 3, 1, 1), 0.6)).flatten(), torch.tensor([1, 1.6, 0.0]))
    torch.testing.assert_close(Toy(1).normalized(torch.full((1, 1, 1, 1), 0.8)).item(), 1.0)  # (0.8 - 0.3) / 0.5
    assert not Toy(mean=(0, 0, 0), std=(1, 1, 1)).takes_unit_range
    assert not [name for name in colour.state_dict() if name in ('mean', 'std')]
    with pytest.raises(ValueError, match=r'Toy: expected as many values of std as Conv2d has .* \(3\), got'):
        Toy(std=(1.0,))


def test_images_of_other_channels_are_refused():
    message = r'expected images of 1 channel for Conv2d \(in_chans\), got 3. Set in_chans=3 .*color_type=.grayscale'
    with pytest.raises(ValueError, match=message):
        Toy(1).normalized(torch.rand(2, 3, 5, 5))  # broadcast, the convolution would be the one to fail
    with pytest.raises(ValueError, match=r'expected images of 4 channels .*, got 3. .*color_type=.unchanged'):
        Toy(4, mean=(0.5,) * 4, std=(0.5,) * 4).normalized(torch.rand(2, 3, 5, 5))
    assert Toy().normalized(torch.rand(2, 1, 5, 5)).shape == (2, 3, 5, 5)


def test_output_is_one_of_three():
    with pytest.raises(ValueError, match='Toy: expected output to be one of'):
        Toy(output='maps')


def test_both_streams_of_a_backbone_are_streams():
    built = MODELS.build(
        dict(type='HybridBackbone', cnn=dict(type='ResNet', depth=18), vit=dict(model_name='test_vit'), img_size=64)
    )
    assert isinstance(built.cnn, Stream)
    assert isinstance(built.vit, Stream)
    with pytest.raises(NotImplementedError, match='Toy: expected a method get_layer_depth'):
        Toy().get_layer_depth('model.weight')
