"""Resized weights are those that timm's own loader makes of the same file."""

import pytest
import timm
import torch
from torch import nn

from hybridcls.models.weights.timm_weights import fit_timm_weights

PLAIN = dict(depth=1, embed_dim=24, num_heads=2)
SWIN = dict(depths=(1, 1), num_heads=(1, 2), embed_dim=24, num_classes=5)
CASES = {
    'position table': ('vit_tiny_patch16_224', dict(PLAIN, img_size=64), dict(PLAIN, img_size=96), 'pos_embed'),
    'Swin tables': (
        'swin_tiny_patch4_window7_224',
        dict(SWIN, img_size=32, window_size=2),
        dict(SWIN, img_size=64, window_size=4),
        'layers.0.blocks.0.attn.relative_position_bias_table',
    ),
    'fewer channels': ('test_resnet', {}, dict(in_chans=1), 'conv1.0.weight'),
    'more channels': ('test_convnext', {}, dict(in_chans=5), 'stem.0.weight'),
}


class Holder(nn.Module):
    """A timm model somewhere inside, as in our backbone."""

    def __init__(self, model):
        super().__init__()
        self.part = nn.ModuleDict(dict(model=model))


@pytest.mark.parametrize('case', CASES)
def test_against_timms_own_loader(tmp_path, case):
    name, small, large, weight = CASES[case]
    torch.manual_seed(0)
    source = timm.create_model(name, **small)
    for parameter in source.parameters():
        nn.init.normal_(parameter)
    torch.save(source.state_dict(), tmp_path / 'w.pth')
    overlay = dict(file=str(tmp_path / 'w.pth'), num_classes=source.num_classes, custom_load=False)
    expected = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **large).state_dict()
    target = Holder(timm.create_model(name, **large))
    weights = {f'part.model.{key}': value for key, value in source.state_dict().items()}
    fitted, resized = fit_timm_weights(target, weights)
    assert f'part.model.{weight}' in {entry.name for entry in resized}
    for entry in resized:
        key = entry.name.removeprefix('part.model.')
        assert (entry.old, entry.new) == (tuple(source.state_dict()[key].shape), tuple(expected[key].shape))
    target.load_state_dict(fitted)
    torch.testing.assert_close(target.part.model.state_dict(), expected, rtol=0, atol=0)


def test_a_model_of_one_channel_goes_over_to_three():
    source, target = timm.create_model('test_resnet', in_chans=1), timm.create_model('test_resnet')
    fitted, _ = fit_timm_weights(target, source.state_dict())
    grey = source.state_dict()['conv1.0.weight']
    torch.testing.assert_close(fitted['conv1.0.weight'].sum(1, keepdim=True), grey)  # a grey image gives the same


def test_what_fits_is_left_alone():
    model = timm.create_model('test_vit')
    weights = model.state_dict()
    assert fit_timm_weights(model, weights) == (weights, [])
    assert fit_timm_weights(nn.Linear(2, 2), dict(weight=torch.zeros(3, 3)))[1] == []


def test_what_timm_cannot_resize_keeps_its_shape():
    source = timm.create_model('vit_tiny_patch16_224', **dict(PLAIN, img_size=64))
    target = timm.create_model('vit_tiny_patch16_224', **dict(PLAIN, embed_dim=32, img_size=64))
    fitted, resized = fit_timm_weights(target, source.state_dict())
    assert resized == []
    assert fitted['blocks.0.attn.qkv.weight'].shape == (72, 24)
