"""``--calibration``, ``--no-calibration``, ``--skip-sure``: which calibration a test or an answer takes, and how."""

from argparse import ArgumentParser

__all__ = ['add_calibration_options', 'add_skip_option']


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


def add_skip_option(parser: ArgumentParser) -> None:
    """Add ``--skip-sure``."""
    parser.add_argument(
        '--skip-sure',
        action='store_true',
        help='of a model of two streams: leave one out for images whose answer is sure without it, as the calibration '
        'says (`hybridcls calibrate --skip-sure RATE`)',
    )
