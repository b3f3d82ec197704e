"""``--calibration`` and ``--no-calibration``: which calibration a test or an answer takes."""

from argparse import ArgumentParser

__all__ = ['add_calibration_options']


def add_calibration_options(parser: ArgumentParser) -> None:
    """Add both; ``calibration`` becomes a path, False, or None for the one beside the checkpoint."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        '--calibration',
        metavar='FILE',
        help='file of `hybridcls calibrate`; default: that beside the checkpoint',
    )
    group.add_argument(
        '--no-calibration', dest='calibration', action='store_false', default=None, help="the model's own probabilities"
    )
