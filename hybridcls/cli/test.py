"""Test a trained model on its test images, and print the metrics.

The config is read from the checkpoint, unless --config names another one.
"""

import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Optional

from hybridcls.checks import check_file

from .calibration_options import add_calibration_options, add_skip_option
from .find_config import find_config, shipped_configs
from .json_output import print_json, stdout_for_json, tell
from .out_file import add_out_option, check_out, unfinished_out, write_out
from .shared_options import add_shared_options, check_shared_paths, load_with_options
from .training_options import add_config_options, add_process_options, apply_process_options

if TYPE_CHECKING:
    from mmengine.config import Config, ConfigDict

__all__ = ['HELP', 'add_arguments', 'add_options', 'run', 'use_tta']

HELP = 'test a trained model on its test images and print the metrics'
_SHARED = ('data', 'img-size', 'batch-size', 'seed')
_PICKLES = ('.pkl', '.pickle')
_FORMATS = ('.json', '.yml', '.yaml', '.csv')


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='checkpoint file, or work dir: its best checkpoint, or the last one if there is no best. Leave it out if '
        '--config is an EnsembleClassifier whose members name their checkpoints',
    )
    parser.add_argument(
        '--config', help='path or name of a config, as for `train`; default: the config in the checkpoint'
    )
    add_options(parser)
    parser.set_defaults(beside=True)


def add_options(parser: ArgumentParser) -> None:
    """Add the options that ``tools/test.py`` has too."""
    parser.add_argument('--work-dir', help='folder for the log; default: a folder `test` beside the checkpoint')
    add_out_option(parser, 'write the metrics (.json, .yml, .csv) or the predictions of all images (.pkl) to FILE')
    parser.add_argument(
        '--out-item',
        choices=['metrics', 'pred'],
        help='what to write to FILE; default: pred for .pkl, metrics for other files',
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='test-time augmentation: aggregate the predictions of several views of each image, as tta_pipeline and '
        'tta_model of the config say; default: the image and its mirror image, with MixtureTTA',
    )
    parser.add_argument(
        '--corruptions',
        nargs='*',
        metavar='KIND',
        help='also test on corrupted images, at five severities for each KIND: blur, noise, jpeg, brightness, '
        'resolution; default without KIND: all of them',
    )
    add_calibration_options(parser)
    add_skip_option(parser)
    parser.add_argument('--show', action='store_true', help='show each image with its prediction in a window')
    parser.add_argument('--show-dir', metavar='FOLDER', help='write each image with its prediction to FOLDER')
    parser.add_argument('--interval', type=int, default=1, help='show or write only every n-th image; default: 1')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds to show each window; default: 2')
    add_shared_options(parser, _SHARED)
    add_config_options(parser)
    add_process_options(parser)


def run(args: Namespace) -> int:
    """Test, and report the metrics."""
    _check(args)
    began = time.monotonic()
    with stdout_for_json(args.json):
        apply_process_options(args)
        result = _test(args)
    if args.json:
        print_json(dict(command='test', **result, seconds=round(time.monotonic() - began, 3)))
    return 0


def _check(args: Namespace) -> None:
    """Find what can be found wrong without the imports that take seconds."""
    path = args.checkpoint
    if args.config is not None:
        args.config = find_config('test', args.config)
    elif path is None:
        raise ValueError('test: expected a checkpoint or a work dir, got none. (An ensemble needs --config.)')
    if path is not None and '://' not in path:
        if path.endswith(('.py', '.yml', '.yaml')) or (path in shipped_configs() and not os.path.exists(path)):
            raise ValueError(
                f'test: expected a checkpoint or a work dir, got the config {path!r}. Write hybridcls test CHECKPOINT '
                f'--config {path}, or leave --config out: the checkpoint contains its config.'
            )
        if not os.path.isdir(path):
            check_file('test', 'checkpoint', path)
    check_shared_paths('test', args)
    if args.corruptions is not None and (args.show or args.show_dir):
        raise ValueError(
            'test: --corruptions repeats the test, but --show and --show-dir show a single one. Leave one of them out.'
        )
    if args.out_item and not args.out:
        raise ValueError('test: --out-item needs --out FILE.')
    args.out_item = args.out_item or ('pred' if str(args.out).endswith(_PICKLES) else 'metrics')
    if args.corruptions is not None and args.out and args.out_item == 'pred':
        raise ValueError('test: --corruptions writes metrics only. Add --out-item metrics, or leave --corruptions out.')
    check_out('test', args.out, args.force, _PICKLES if args.out_item == 'pred' else (*_FORMATS, *_PICKLES))


def _test(args: Namespace) -> dict[str, Any]:
    from hybridcls.engine import TrainOptions, build_runner, is_chain, prepare_testing
    from hybridcls.engine.checkpoints import find_checkpoint

    checkpoint, work_dir = None, args.work_dir
    if args.checkpoint is not None:
        checkpoint, why = find_checkpoint(args.checkpoint)
        tell(why)
        if args.beside and '://' not in checkpoint:
            work_dir = work_dir or str(Path(checkpoint).parent / 'test')
    calibration = _calibration(checkpoint, args)
    cfg = load_with_options(args) if args.config else _config_in(str(checkpoint), args)
    if is_chain(cfg):
        raise ValueError(
            f'test: expected the config of one phase, got the chain {args.config}. Write hybridcls test '
            f'{args.checkpoint}: the checkpoint contains the config of its phase.'
        )
    ratio = _use_inference(cfg, args)
    if calibration is not None or args.skip_sure:
        hook = dict(
            type='hybridcls.CalibrationHook', checkpoint=checkpoint, file=calibration, skip_sure=args.skip_sure,
            token_merging_ratio=ratio,
        )  # fmt: skip
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]
    options = TrainOptions(amp=args.amp, pin_memory=not args.no_pin_memory, launcher=args.launcher)
    cfg = prepare_testing(cfg, checkpoint, options, work_dir)
    if args.show or args.show_dir:
        show_predictions(cfg, args)
    if args.tta:
        use_tta(cfg)
    if args.corruptions is not None:
        chosen = dict(corruptions=args.corruptions) if args.corruptions else {}
        cfg.test_cfg = {**(cfg.get('test_cfg') or {}), 'type': 'CorruptionTestLoop', **chosen}
    runner = build_runner(cfg)
    if args.out and args.out_item == 'pred':
        from hybridcls.evaluation import DumpResults

        with unfinished_out(args.out) as unfinished:
            runner.test_evaluator.metrics.append(DumpResults(out_file_path=unfinished))
            metrics = runner.test()
    else:
        metrics = runner.test()
    if args.out and args.out_item == 'metrics':
        from hybridcls.evaluation.result_file import results_as_bytes

        write_out(results_as_bytes(metrics, args.out), args.out)
    from hybridcls.evaluation.result_names import described

    declared = described(metrics, runner.test_evaluator.metrics)
    names = dict(checkpoint=checkpoint, config=args.config, work_dir=cfg.work_dir)
    return dict(**names, metrics=metrics, declared=declared, out=args.out, calibration=calibration)


def _calibration(checkpoint: Optional[str], args: Namespace) -> Optional[str]:
    """Find the calibration of the checkpoint, and say so."""
    from hybridcls.engine.checkpoints.calibration_file import find_calibration

    found = None if checkpoint is None else find_calibration(checkpoint, args.calibration)
    if found is None:
        return None
    if args.tta:
        tell(f'{found.path} is not applied: it calibrates single views, and --tta aggregates several.')
        return None
    tell(found.why)
    return found.path


def _config_in(checkpoint: str, args: Namespace) -> 'Config':
    """Load the config that a checkpoint holds, and that may name registered parts alone unless it is trusted."""
    from hybridcls import registry
    from hybridcls.engine import ConfigError
    from hybridcls.engine.checkpoints.config_values import config_values
    from hybridcls.engine.config.checkpoint_config import check_types

    values = config_values(checkpoint)
    if values is None:
        raise ValueError(
            f'test: {checkpoint} contains no config, because hybridcls did not write it. Add --config CONFIG.'
        )
    if not args.trust_checkpoint:
        values.pop('custom_imports', None)
    registries = [getattr(registry, name) for name in registry.__all__]
    check_types(values, checkpoint, registries, 'Or name the config of your training, which imports it: --config FILE.')
    with TemporaryDirectory() as folder:
        file = Path(folder, f'{Path(checkpoint).resolve().parent.name}.py')
        file.write_text(''.join(f'{key} = {value!r}\n' for key, value in values.items()), encoding='utf8')
        try:
            return load_with_options(Namespace(**{**vars(args), 'config': str(file)}))
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(file), f'the config in {checkpoint}')) from error


def _use_inference(cfg: 'Config', args: Namespace) -> Optional[float]:
    """Test with the precision and the merged tokens of the key ``inference``; return the ratio of these."""
    if not cfg.get('inference'):
        return None
    import torch

    from hybridcls.apis.inference_settings import InferenceSettings

    settings = InferenceSettings.of_config(cfg)
    ratio = settings.token_merging_ratio
    if ratio is not None:
        hook = dict(type='hybridcls.TokenMergingHook', token_merging_ratio=ratio, when='test')
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]
    if settings.dtype is not None:
        args.amp = True
        if torch.cuda.is_available():
            torch.set_autocast_dtype('cuda', settings.dtype)
    left_out = [name for name in ('compile', 'channels_last') if getattr(settings, name)]
    if left_out:
        tell(f'inference: the test computes in {settings.precision} and ignores {" and ".join(left_out)}, which only '
             'change the speed.')  # fmt: skip
    return ratio


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
    _leave_out_ema(cfg)


def _leave_out_ema(cfg: 'Config') -> None:
    """Take out EMAHooks: a checkpoint has the averaged weights as those of the model, and the hook looks for others.

    It would copy the aggregating model, whose names of weights are not those of the checkpoint.
    """
    from mmengine.hooks import EMAHook

    from hybridcls.engine.config.tree import class_of

    def averages(hook: Any) -> bool:
        kind = class_of('HOOKS', hook)
        return isinstance(kind, type) and issubclass(kind, EMAHook)

    for name, hook in list((cfg.get('default_hooks') or {}).items()):
        if averages(hook):
            del cfg.default_hooks[name]
    cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks') or [] if not averages(hook)]


def datasets_with_pipeline(dataset: 'ConfigDict') -> Iterator['ConfigDict']:
    """Yield the configs of the datasets that have a pipeline, inside wrappers too."""
    if dataset.get('pipeline'):
        yield dataset
    for inside in [*dataset.get('datasets', []), dataset.get('dataset')]:
        if inside is not None:
            yield from datasets_with_pipeline(inside)


def show_predictions(cfg: 'Config', args: Namespace) -> None:
    """Enable the hook that draws predictions."""
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if hook is None:
        raise ValueError(
            '--show-dir: expected default_hooks.visualization in the config, got none. Add '
            "default_hooks = dict(visualization=dict(type='VisualizationHook'))."
        )
    hook.update(enable=True, show=args.show, wait_time=args.wait_time, out_dir=args.show_dir, interval=args.interval)
