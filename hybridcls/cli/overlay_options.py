"""``--overlays`` and ``--overlay-layers``: class activation maps."""

from argparse import ArgumentParser, Namespace
from typing import Any

__all__ = ['add_overlay_options', 'chosen_layers']


def add_overlay_options(parser: ArgumentParser, option: str, says: str, **settings: Any) -> None:
    """Add the option that asks for overlays, and the one that names their layers."""
    parser.add_argument(option, help=says, **settings)
    parser.add_argument(
        '--overlay-layers',
        nargs='+',
        default=[],
        metavar='STREAM=LAYER',
        help='layers that the maps are computed from, such as cnn=blocks.5 vit=blocks.9; default: the last layer of '
        'each stream that keeps positions',
    )


def chosen_layers(caller: str, args: Namespace) -> dict[str, str]:
    """Return the layers by stream.

    Raises:
        ValueError: If one is no STREAM=LAYER, or overlays are not asked for.
    """
    layers = dict(one.partition('=')[::2] for one in args.overlay_layers)
    if not all(layers.values()):
        raise ValueError(f'{caller}: expected --overlay-layers STREAM=LAYER, got {" ".join(args.overlay_layers)}.')
    if layers and args.overlays is None:
        raise ValueError(f'{caller}: --overlay-layers needs --overlays. Add it, or leave --overlay-layers out.')
    return layers
