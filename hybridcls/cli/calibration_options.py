"""``--calibration``, ``--no-calibration``, ``--skip-sure``: choose the calibration of a test or a prediction."""

from argparse import ArgumentParser

__all__ = ['add_calibration_options', 'add_skip_option']


def add_calibration_options(parser: ArgumentParser) -> None:
    """Add both; ``calibration`` becomes a path, False, or None for the one beside the checkpoint."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        '--calibration',
        metavar='FILE',
        help='calibration file of `hybridcls calibrate`; default: the one beside the checkpoint, if any',
    )
    group.add_argument(
        '--no-calibration',
        dest='calibration',
        action='store_false',
        default=None,
        help="ignore the calibration file, and use the model's own probabilities",
    )


def add_skip_option(parser: ArgumentParser) -> None:
    """Add ``--skip-sure``."""
    parser.add_argument(
        '--skip-sure',
        action='store_true',
        help='for models of two streams: do not compute one stream for images whose answer is sure without it. Needs '
        'a calibration by `hybridcls calibrate --skip-sure RATE`',
    )
