"""Distillation: accuracy of a small student with and without a teacher, on the digits, over several seeds.

    python tools/benchmark.py distillation --seeds 5

The student is a small CNN, trained on a tenth of the training images; the teacher is the hybrid of configs/digits,
trained on all of them by cross entropy.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_training
from hybridcls.engine.runner.global_instances import isolated_globals

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'digits'


def train(options: dict[str, Any], work_dir: Path) -> float:
    """Train, and return the last top-1 accuracy on the test images."""
    quiet = {'log_level': 'ERROR', 'default_hooks.curves': None, 'default_hooks.checkpoint.save_best': None}
    with isolated_globals():
        cfg = load_config(CONFIGS / 'ce_hybrid.py', {**quiet, **options})
        cfg.default_hooks.pop('curves')
        runner = build_runner(prepare_training(cfg, TrainOptions(), str(work_dir)))
        runner.train()
        return float(runner.message_hub.get_scalar('val/accuracy/top1').current())


def main() -> None:
    """Print both accuracies for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, default=5)
    parser.add_argument('--images', type=int, default=144, help='training images of the student')
    parser.add_argument('--epochs', type=int, default=40, help='of the student')
    parser.add_argument('--weight', type=float, default=0.7)
    parser.add_argument('--temperature', type=float, default=4.0)
    args = parser.parse_args()
    images = {'train_dataloader.dataset.split': 'train+val', 'val_dataloader.dataset.split': 'test'}
    student = {
        **images,
        'model.backbone.vit': None,
        'model.backbone.cnn': dict(_delete_=True, model_name='test_resnet'),
        'train_dataloader.dataset.indices': args.images,
        'train_dataloader.batch_size': 32,
        'train_cfg.max_epochs': args.epochs,
        'train_cfg.val_interval': args.epochs,
        'default_hooks.checkpoint.interval': -1,
    }
    with tempfile.TemporaryDirectory() as folder:
        teacher_dir = Path(folder, 'teacher')
        known = train({**images, 'train_cfg.val_interval': 20}, teacher_dir)
        print(f'teacher: {known:.2f} %', flush=True)
        hook = dict(
            type='DistillationHook',
            teacher=str(CONFIGS / 'ce_hybrid.py'),
            teacher_checkpoint=str(teacher_dir / 'epoch_20.pth'),
            distill_weight=args.weight,
            temperature=args.temperature,
        )
        scores: dict[str, list[float]] = {'alone': [], 'taught': []}
        for seed in range(args.seeds):
            for name, hooks in (('alone', []), ('taught', [hook])):
                scores[name].append(
                    train({**student, 'randomness.seed': seed, 'custom_hooks': hooks}, Path(folder, f'{name}{seed}'))
                )
            print(f'seed {seed}: alone {scores["alone"][-1]:.2f} %, taught {scores["taught"][-1]:.2f} %', flush=True)
    gains = [taught - alone for alone, taught in zip(scores['alone'], scores['taught'], strict=True)]
    for name, values in (*scores.items(), ('gain', gains)):
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(
            f'{name}: mean {statistics.mean(values):.2f}, standard deviation {spread:.2f}, '
            f'from {min(values):.2f} to {max(values):.2f}'
        )


if __name__ == '__main__':
    main()
