"""Train with and without each lever (SAM, CBAM, EMA, ...) on paired seeds, and compare the results.

The arms are: no lever, each lever alone, and all levers; --full adds all levers but one. Every arm is a config in
WORK_DIR/arms that inherits CONFIG, and that `hybridcls train` can train too. The command prints a table and one
sentence about each lever, and draws gain against cost. Type the same command again to continue an interrupted ablation.
"""

import json
import math
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridcls.checks import counted

from .config_options import ConfigOptions
from .device import add_device_option, hide_gpus, use_device, visible_gpu
from .find_config import find_config
from .json_output import print_json, stdout_for_json, tell
from .shared_options import SHARED_OPTIONS, add_shared_options, check_shared_paths, values_of_keys

if TYPE_CHECKING:
    from hybridcls.apis.ablation import Arm, Lever, Metric, Training
    from hybridcls.apis.ablation.arm_check import CheckedArms

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'train with and without each lever (SAM, CBAM, EMA, ...), and compare the results'

_METRICS = {
    'accuracy/top1': ('accuracy', 'points', True),
    'calibration/nll': ('NLL', 'nats', False),
}


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        'config', help='path of a config or of a chain of phases, or NAME of a shipped one, such as digits/few_images'
    )
    parser.add_argument(
        '--levers',
        action='append',
        required=True,
        metavar='NAMES',
        help='levers to compare, separated by commas: sam, msam, friendly_sam, lookahead, gc, cbam, token_learner, '
        'token_merging, lora, dha, supcon, arcface, adaface, evidential, label_smoothing, ema. Repeat the option for '
        "a lever of your own, NAME:KEY=VALUE,...: --levers 'big:lr=0.1,model.neck.fusion_dim=64'",
    )
    parser.add_argument(
        '--seeds', type=int, default=5, metavar='N', help='number of trainings for each arm; default: %(default)s'
    )
    parser.add_argument('--full', action='store_true', help='also train with all levers but one, for each lever')
    parser.add_argument(
        '--vary',
        action='append',
        default=[],
        metavar='KEY',
        help='config key that is also set to the number of the seed, such as train_dataloader.dataset.images_seed. '
        'May be repeated',
    )
    parser.add_argument(
        '--jobs',
        type=int,
        metavar='N',
        help='number of trainings that run at the same time; default: one for each processor, or 1 on a GPU',
    )
    parser.add_argument('--work-dir', help='folder for arms, trainings and results; default: work_dirs/ablate_<config>')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        metavar='KEY=VALUE',
        help='set keys of the config in every arm',
    )
    add_shared_options(parser, [name for name in SHARED_OPTIONS if name not in ('folds', 'seed')])
    add_device_option(parser)


def run(args: Namespace) -> int:
    """Train all arms, and report what each lever gains."""
    args.config = find_config('ablate', args.config)
    check_shared_paths('ablate', args)
    if args.seeds < 1:
        raise ValueError(f'ablate: expected --seeds to be at least 1, got {args.seeds}.')
    if args.jobs is not None and args.jobs < 1:
        raise ValueError(f'ablate: expected --jobs to be at least 1, got {args.jobs}.')
    with stdout_for_json(args.json):
        result = _ablate(args)
    if args.json:
        print_json(dict(command='ablate', **result))
    return 0


def _ablate(args: Namespace) -> dict[str, Any]:
    hide_gpus(args.device)
    use_device(args.device)
    if args.device.startswith('cuda:'):
        os.environ['CUDA_VISIBLE_DEVICES'] = visible_gpu(int(args.device.partition(':')[2]))

    from hybridcls.apis.ablation import lever_of
    from hybridcls.engine.checkpoints.files import check_writable

    names = [name for text in args.levers for name in ([text] if ':' in text else text.split(','))]
    levers = [lever_of(name.strip()) for name in names if name.strip()]
    folder = Path(args.work_dir or os.path.join('work_dirs', f'ablate_{Path(args.config).stem}'))
    check_writable(folder)
    options = _options(args)
    arms, files, checked = _checked_arms(args, levers, folder, options)
    done = _train(args, folder, options, arms, files, checked)
    metrics = _metrics_in(done)
    return _report(args, folder, arms, done, metrics, checked.left_out)


def _options(args: Namespace) -> dict[str, Any]:
    """Return the config keys that are set in every arm."""
    options = {**(args.cfg_options or {}), **values_of_keys(args)}
    for key in ('seed', 'randomness.seed'):
        if key in options:
            raise ValueError(
                f'ablate: expected no {key} among the options, got {options[key]}: --seeds sets it. Leave it out.'
            )
    return options


def _checked_arms(
    args: Namespace, levers: Sequence['Lever'], folder: Path, options: Mapping[str, Any]
) -> tuple[list['Arm'], dict[str, Path], 'CheckedArms']:
    """Write the config of each arm, and return the arms that can be trained, the files, and what was checked."""
    from hybridcls.apis.ablation import arms_of, check_arms, write_arms

    options = {**options, **dict.fromkeys(args.vary, 0)}
    arms = arms_of(args.config, levers, args.full, options, folder / 'arms')
    files = write_arms(arms, folder / 'arms')
    checked = check_arms(arms, files, options)
    for name, why in checked.left_out.items():
        tell(f'Left out: the arm {name}: {why}.')
    return [arm for arm in arms if arm.name not in checked.left_out], files, checked


def _train(
    args: Namespace,
    folder: Path,
    options: Mapping[str, Any],
    arms: Sequence['Arm'],
    files: Mapping[str, Path],
    checked: 'CheckedArms',
) -> list['Training']:
    """Train each arm with each seed, several at a time."""
    import torch

    from hybridcls.apis.ablation import Training, run_trainings

    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    on_gpu = args.device != 'cpu' and torch.cuda.is_available()
    jobs = args.jobs or (1 if on_gpu else cores)
    trainings = [
        Training(arm.name, seed, str(files[arm.name]), {**options, **dict.fromkeys(args.vary, seed)})
        for seed in range(args.seeds)  # of all arms one seed after the other: what is there is always paired
        for arm in arms
    ]
    tell(f'{counted(len(arms), "arm")} x {counted(args.seeds, "seed")}, {jobs} at a time, in {folder}.')
    return run_trainings(
        trainings,
        folder,
        checked.contents,
        jobs,
        max(1, cores // jobs),
        checked.chance,
        tell,
        _METRICS,
        args.device.partition(':')[0],
    )


def _metrics_in(done: Sequence['Training']) -> list['Metric']:
    """Return those of the compared metrics that the validations have."""
    from hybridcls.apis.ablation import Metric

    there = {name for one in done for name in one.metrics}
    metrics = [Metric(key, *told) for key, told in _METRICS.items() if key in there]
    if not metrics:
        raise ValueError(
            f'ablate: expected {" or ".join(_METRICS)} among the results of the validation, got {sorted(there)}. Add '
            "dict(type='Accuracy', topk=(1,)) to val_evaluator."
        )
    return metrics


def _report(
    args: Namespace,
    folder: Path,
    arms: Sequence['Arm'],
    done: Sequence['Training'],
    metrics: Sequence['Metric'],
    left_out: Mapping[str, str],
) -> dict[str, Any]:
    """Print the effects, write the table, the numbers and the picture, and return the numbers."""
    from hybridcls.apis.ablation import draw_gain_and_cost, effects_of, table_of, to_json
    from hybridcls.engine.checkpoints.files import atomic_write
    from hybridcls.evaluation.result_file import plain_results

    effects = effects_of(arms, done, metrics)
    base = {
        metric.key: [value for one in done if one.arm == 'base' and (value := one.metrics.get(metric.key)) is not None]
        for metric in metrics
    }
    said = [f'{_mean(base[metric.key], metric)}' for metric in metrics]
    tell('\nbase: ' + ', '.join(said) + '\n' + table_of(effects, metrics))
    for one in effects:
        tell(f'- {one.sentence}')
    picture = folder / 'ablation.png'
    title = f'{Path(args.config).stem}: {counted(args.seeds, "seed")}'
    atomic_write(draw_gain_and_cost(effects, metrics, title, 0.95), picture)
    result = dict(
        config=args.config,
        work_dir=str(folder),
        seeds=args.seeds,
        picture=str(picture),
        base={key: sum(values) / len(values) if values else math.nan for key, values in base.items()},
        arms=[to_json(one) for one in effects],
        left_out=left_out,
    )
    atomic_write(json.dumps(plain_results(result, finite=True), indent=1).encode(), folder / 'ablation.json')
    atomic_write(table_of(effects, metrics, markdown=True).encode(), folder / 'ablation.md')
    tell(f'Written: {folder}/ablation.json, ablation.md, ablation.png. Each arm: hybridcls train {folder}/arms/NAME.py')
    return result


def _mean(values: list[float], metric: Any) -> str:
    if not values:
        return f'{metric.name} unknown'
    unit = '%' if metric.unit == 'points' else f' {metric.unit}'
    return f'{metric.name} {sum(values) / len(values):.4g}{unit}'
