"""Train the model of a config, or the phases of a chain in turn.

python tools/train.py configs/digits/two_phase.py
python tools/train.py configs/hybrid/supcon_convnext_swin.py --amp --cfg-options img_size=256
bash tools/dist_train.sh configs/hybrid/supcon_convnext_swin.py 8
"""

import argparse

from hybridcls.checks import check_file
from hybridcls.command_line import run_tool


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    from hybridcls.cli.training_options import add_process_options, add_training_options, apply_process_options

    parser = argparse.ArgumentParser(description='Train a model, or the phases of a chain of configs.')
    parser.add_argument('config', help='config file; one with `phases` runs them in turn')
    parser.add_argument('--work-dir', help='folder for checkpoints and logs; default: work_dirs/<name of the config>')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from the given checkpoint, or without one from the latest valid checkpoint of the work dir, if '
        'any. A chain always resumes; there, the option allows an interrupted phase to resume with a changed config',
    )
    add_training_options(parser)
    add_process_options(parser)
    args = parser.parse_args(arguments)
    apply_process_options(args)
    return args


def main() -> None:
    """Train."""
    args = parse_args()
    if '::' not in args.config:
        check_file('train', 'config', args.config)  # before the imports that take seconds
    from hybridcls.checkpoint_reading import trust_checkpoints
    from hybridcls.cli.training_options import training_options
    from hybridcls.engine import build_runner, is_chain, load_config, prepare_training, run_chain, run_training

    if args.trust_checkpoint:
        trust_checkpoints()
    cfg = load_config(args.config, args.cfg_options)
    options = training_options(args, args.resume)
    if is_chain(cfg):
        run_chain(cfg, options, args.work_dir)
        return
    run_training(build_runner(prepare_training(cfg, options, args.work_dir)))


if __name__ == '__main__':
    run_tool(main)
