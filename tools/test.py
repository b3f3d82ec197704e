"""Test a checkpoint with the model and the metrics of a config: `hybridcls test` with the habits of OpenMMLab's tool.

python tools/test.py configs/digits/adaface_hybrid.py work_dirs/adaface_hybrid/epoch_20.pth
bash tools/dist_test.sh CONFIG CHECKPOINT 8 --out predictions.pkl
"""

from argparse import ArgumentParser

from hybridcls.cli import test
from hybridcls.cli.main import run_alone


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments, the config first."""
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='checkpoint file, or work dir: its best checkpoint, or the last one if there is no best. Leave it out if '
        'the config is an EnsembleClassifier whose members name their checkpoints',
    )
    test.add_options(parser)


def main() -> None:
    """Test."""
    run_alone(test, 'tools/test.py', add_arguments, force=True, beside=False)


if __name__ == '__main__':
    main()
