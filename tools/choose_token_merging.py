"""Choose how many tokens to merge for a target speed on this machine, and print the accuracy with and without.

    python tools/choose_token_merging.py CONFIG CHECKPOINT --speedup 1.3
    python tools/choose_token_merging.py CONFIG CHECKPOINT --target-ms 40 --batch-size 8

The model of the config must have a plain vision transformer. It is timed on a batch of its test set, and tested twice
with the test set and the metrics of the config: without merging, and with the chosen number. Token merging of the
config itself is switched off.
"""

import argparse

from hybridcls.checks import check_file, check_number
from hybridcls.command_line import run_tool


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    from hybridcls.cli.config_options import ConfigOptions

    parser = argparse.ArgumentParser(
        description='Choose how many tokens to merge for a target speed, and print the accuracy with and without.'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    wish = parser.add_mutually_exclusive_group(required=True)
    wish.add_argument(
        '--speedup',
        type=float,
        help='target speed-up: the time without merging divided by the time with it, such as 1.3',
    )
    wish.add_argument('--target-ms', type=float, help='target time of a batch, in milliseconds')
    parser.add_argument(
        '--batch-size',
        type=int,
        default=8,
        help='number of images in the timed batch; take the size that you will use; default: %(default)s',
    )
    parser.add_argument(
        '--inflection',
        type=float,
        default=0.0,
        help='how the number of merged tokens changes over the blocks: -1 falls from 2 r in the first to 0 in the '
        'last, 1 rises, 0 merges r in each; default: %(default)s',
    )
    parser.add_argument(
        '--rounds', type=int, default=9, help='number of timings of each candidate; default: %(default)s'
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='allow the checkpoint to run the code that it contains; it may run any command',
    )
    parser.add_argument('--work-dir', help='folder for the log and the metrics')
    parser.add_argument(
        '--cfg-options', nargs='+', action=ConfigOptions, metavar='KEY=VALUE', help='set keys of the config'
    )
    return parser.parse_args(arguments)


def main() -> None:
    """Choose."""
    args = parse_args()
    if '::' not in args.config:
        check_file('choose_token_merging', 'config', args.config)
    check_file('choose_token_merging', 'checkpoint', args.checkpoint)
    check_number('choose_token_merging', '--batch-size', args.batch_size, 1)
    from hybridcls.apis.merging_choice import choose_merging
    from hybridcls.checkpoint_reading import trust_checkpoints
    from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_testing
    from hybridcls.engine.config.tree import is_a
    from hybridcls.engine.hooks import TokenMergingHook
    from hybridcls.models.adapters import add_token_merging, remove_token_merging
    from hybridcls.models.backbones import HybridBackbone

    if args.trust_checkpoint:
        trust_checkpoints()
    cfg = prepare_testing(load_config(args.config, args.cfg_options), args.checkpoint, TrainOptions(), args.work_dir)
    # It would replace the chosen number when a test begins.
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if not is_a('HOOKS', hook, TokenMergingHook)]
    runner = build_runner(cfg)
    remove_token_merging(runner.model)
    # Before the weights are loaded: the time does not depend on them, and the target may be out of reach.
    data = runner.model.data_preprocessor(next(iter(runner.build_dataloader(cfg.test_dataloader))), False)
    images = data['inputs']
    images = images.repeat(-(-args.batch_size // len(images)), 1, 1, 1)[: args.batch_size]
    target = None if args.target_ms is None else args.target_ms / 1e3
    choice = choose_merging(runner.model, images, args.speedup, target, args.rounds, args.inflection)
    whole = runner.test()
    merging = add_token_merging(runner.model, choice.ratio)
    merged = runner.test()

    print(f'\n{merging}')
    print(
        f'r = {choice.r}: {choice.seconds * 1e3:.1f} ms for {len(images)} images, {choice.speedup:.2f} times as fast '
        f'as without merging ({choice.whole_seconds * 1e3:.1f} ms)'
    )
    print(f'{"":<24}{"r = 0":>12}{f"r = {choice.r}":>12}{"difference":>12}')
    for name, value in whole.items():
        if name in merged and isinstance(value, (int, float)) and not name.endswith('time'):
            print(f'{name:<24}{value:>12.4f}{merged[name]:>12.4f}{merged[name] - value:>+12.4f}')
    if not choice.r:
        print('\nThe model is fast enough without merging: nothing to add to the config.')
        return
    ratio = f'dict({", ".join(f"{key}={value:g}" for key, value in choice.ratio.items())})'
    print(
        '\nTo merge in tests and validations only, on the weights as they are, add to the config\n'
        f"  custom_hooks = [dict(type='TokenMergingHook', token_merging_ratio={ratio})]"
    )
    if isinstance(getattr(runner.model, 'backbone', None), HybridBackbone):
        print(
            'or, to merge always, in training and export too\n'
            f'  model = dict(backbone=dict(token_merging_ratio={ratio}))'
        )


if __name__ == '__main__':
    run_tool(main)
