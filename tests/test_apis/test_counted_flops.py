"""Operations are those that the formulas of layers give, attention among them."""

import timm
import torch
from torch import nn

from hybridcls.apis.counted_flops import counted_flops


def test_they_are_those_of_the_formulas():
    """On a CPU torch's own counter leaves attention out."""
    model, by_hand = timm.create_model('test_vit', img_size=64, num_classes=5).eval(), []

    def count(module, inputs, output):
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            by_hand.append(2 * output.numel() * module.weight[0].numel())
        elif type(module).__name__ == 'Attention':  # queries by keys, and what they weigh by values
            images, tokens, width = inputs[0].shape
            by_hand.append(2 * 2 * images * tokens * tokens * width)

    for module in model.modules():
        module.register_forward_hook(count)
    image = torch.rand(1, 3, 64, 64)
    assert counted_flops(lambda: model(image)) == sum(by_hand)
    assert not model(image).isnan().any()
