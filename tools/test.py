"""Test a checkpoint with the model and the metrics of a config.

python tools/test.py configs/digits/adaface_hybrid.py work_dirs/adaface_hybrid/epoch_20.pth
bash tools/dist_test.sh CONFIG CHECKPOINT 8 --out predictions.pkl
"""

import argparse
import os
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

from hybridcls.checks import check_file
from hybridcls.command_line import run_tool

if TYPE_CHECKING:
    from mmengine.config import Config, ConfigDict


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    from hybridcls.cli.training_options import add_config_options, add_process_options, apply_process_options

    parser = argparse.ArgumentParser(description='Test a checkpoint.')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='checkpoint file with every weight of the model. (An EnsembleClassifier with checkpoints in its members '
        'needs none.)',
    )
    parser.add_argument('--work-dir', help='folder for the log and the metrics')
    parser.add_argument('--out', metavar='FILE', help='write the results to FILE (.pkl; metrics also .json or .yml)')
    parser.add_argument(
        '--out-item',
        choices=['metrics', 'pred'],
        help='what to write to FILE: the metrics or, by default, the predictions',
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='aggregate the predictions of several views of each image: those of tta_pipeline and tta_model of the '
        'config, by default the image and its mirror image, by MixtureTTA',
    )
    parser.add_argument('--show', action='store_true', help='show the images with their predictions in a window')
    parser.add_argument('--show-dir', metavar='FOLDER', help='write the images with their predictions to FOLDER')
    parser.add_argument('--interval', type=int, default=1, help='show or write every n-th image')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds that each window is shown')
    add_config_options(parser)
    add_process_options(parser)
    args = parser.parse_args(arguments)
    if args.out_item and not args.out:
        parser.error('--out-item needs --out FILE.')
    kinds = ('.pkl', '.pickle') if args.out_item != 'metrics' else ('.json', '.yml', '.yaml', '.pkl', '.pickle')
    if args.out and not args.out.endswith(kinds):
        parser.error(
            f'--out {args.out}: expected a name that ends in .pkl or .pickle for predictions '
            '(--out-item metrics can be written as .json or .yml).'
        )
    apply_process_options(args)
    return args


def use_tta(cfg: 'Config') -> None:
    """Wrap the model of ``cfg`` in one that aggregates the predictions of several views of each image."""
    found = list(datasets_with_pipeline(cfg.test_dataloader.dataset))
    if not found:
        raise ValueError('--tta: expected test_dataloader.dataset with a pipeline, got none.')
    own = cfg.get('tta_pipeline')
    if own is not None and len(found) > 1:
        raise ValueError(
            f'--tta: expected one dataset for tta_pipeline, got {len(found)} in test_dataloader.dataset. Remove '
            'tta_pipeline to use each image and its mirror image.'
        )
    for dataset in found:
        pipeline = dataset.pipeline
        views = [[dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)], [deepcopy(pipeline[-1])]]
        dataset.pipeline = own or [*deepcopy(pipeline[:-1]), dict(type='TestTimeAug', transforms=views)]
    if cfg.get('tta_model') is None:
        cfg.tta_model = dict(type='MixtureTTA')
    cfg.model = dict(**cfg.tta_model, module=cfg.model)


def datasets_with_pipeline(dataset: 'ConfigDict') -> Iterator['ConfigDict']:
    """Yield the configs of the datasets that have a pipeline, inside wrappers too."""
    if dataset.get('pipeline'):
        yield dataset
    for inside in [*dataset.get('datasets', []), dataset.get('dataset')]:
        if inside is not None:
            yield from datasets_with_pipeline(inside)


def show_predictions(cfg: 'Config', args: argparse.Namespace) -> None:
    """Enable the hook that draws predictions."""
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if hook is None:
        raise ValueError(
            '--show-dir: expected default_hooks.visualization in the config, got none. Add '
            "default_hooks = dict(visualization=dict(type='VisualizationHook'))."
        )
    hook.update(enable=True, show=args.show, wait_time=args.wait_time, out_dir=args.show_dir, interval=args.interval)


def main() -> None:
    """Test."""
    args = parse_args()
    if '::' not in args.config:
        check_file('test', 'config', args.config)  # before the imports that take seconds
    if args.checkpoint is not None and '://' not in args.checkpoint and not os.path.isdir(args.checkpoint):
        check_file('test', 'checkpoint', args.checkpoint)
    from hybridcls.checkpoint_reading import trust_checkpoints
    from hybridcls.engine import TrainOptions, build_runner, is_chain, load_config, prepare_testing

    if args.trust_checkpoint:
        trust_checkpoints()
    cfg = load_config(args.config, args.cfg_options)
    if is_chain(cfg):
        beside = sorted(map(str, Path(args.checkpoint).parent.glob('*.py'))) if args.checkpoint else []
        raise ValueError(
            f'test: expected the config of one phase, got the chain {args.config}. Pass the config in the work dir of '
            f'the checkpoint{": " if beside else "."}{" or ".join(beside)}'
        )
    options = TrainOptions(amp=args.amp, pin_memory=not args.no_pin_memory, launcher=args.launcher)
    cfg = prepare_testing(cfg, args.checkpoint, options, args.work_dir)
    if args.show or args.show_dir:
        show_predictions(cfg, args)
    if args.tta:
        use_tta(cfg)
    runner = build_runner(cfg)
    if args.out and args.out_item != 'metrics':
        from hybridcls.evaluation import DumpResults

        runner.test_evaluator.metrics.append(DumpResults(out_file_path=args.out))
    metrics = runner.test()
    if args.out and args.out_item == 'metrics':
        from mmengine.dist import is_main_process

        from hybridcls.engine.checkpoints.files import atomic_write
        from hybridcls.evaluation.result_file import results_as_bytes

        if is_main_process():
            atomic_write(results_as_bytes(metrics, args.out), args.out)


if __name__ == '__main__':
    run_tool(main)
