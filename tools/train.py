"""Train the model of a config, or the phases of a chain in turn: `hybridcls train` with the habits of OpenMMLab's tool.

python tools/train.py configs/digits/two_phase.py
python tools/train.py configs/hybrid/supcon_convnext_swin.py --amp --cfg-options img_size=256
bash tools/dist_train.sh configs/hybrid/supcon_convnext_swin.py 8
"""

from hybridcls.cli import train
from hybridcls.cli.main import run_alone


def main() -> None:
    """Train."""
    run_alone(train, 'tools/train.py', train.add_arguments, overwrite=True)


if __name__ == '__main__':
    main()
