"""Layers of overlays are read, and asked for in vain without overlays."""

from argparse import ArgumentParser

import pytest

from hybridcls.cli.overlay_options import add_overlay_options, chosen_layers


def test_layers_are_read():
    parser = ArgumentParser()
    add_overlay_options(parser, '--overlays', 'says', nargs='?', const=12, type=int)
    args = parser.parse_args(['--overlays', '--overlay-layers', 'cnn=blocks.5', 'vit=blocks.9'])
    assert args.overlays == 12
    assert chosen_layers('report', args) == dict(cnn='blocks.5', vit='blocks.9')
    with pytest.raises(ValueError, match=r'expected --overlay-layers STREAM=LAYER, got blocks\.5'):
        chosen_layers('report', parser.parse_args(['--overlays', '--overlay-layers', 'blocks.5']))
    with pytest.raises(ValueError, match='--overlay-layers needs --overlays'):
        chosen_layers('report', parser.parse_args(['--overlay-layers', 'cnn=blocks.5']))
