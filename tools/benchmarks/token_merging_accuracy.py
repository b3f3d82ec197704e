"""Token merging: accuracy of a trained model with a schedule chosen on held-out training images.

    python tools/benchmark.py token_merging_accuracy [--config configs/digits/ce_vit.py] [--seeds 5] [--saving 0.3]

The protocol:

1. Model k of ``--seeds`` is trained on the training images except every fifth, starting with image k; each schedule of
   :func:`candidates` is evaluated on the held-out images.
2. Of the schedules that save at least ``--saving`` of the model's time (median of interleaved rounds of 64 images, one
   thread, CPU time), the one with the highest mean accuracy is chosen; of equals, the one with the lowest mean cross
   entropy.
3. The same number of other models is trained on all training images, and tested at the last epoch with and without that
   schedule. Test images are used only here.

With ``--trained`` the models of 3 are trained a second time with the schedule. ``--work-dir`` keeps trained models.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridcls.apis.timing import interleaved_timings
from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_training
from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.models.adapters import add_token_merging

CONFIG = Path(__file__).resolve().parents[2] / 'configs' / 'digits' / 'ce_vit.py'
TRAINING_IMAGES = 1437
FOLDS = 5
# The final models: trained on all other images, tested once on the test images.
FINAL = {'train_dataloader.dataset.split': 'train+val', 'val_dataloader.dataset.split': 'test'}


def candidates(patches: int, depth: int) -> dict[str, Any]:
    """Return the schedules to choose from, by name."""
    found: dict[str, Any] = {}
    for share in (1 / 16, 3 / 32, 1 / 8, 5 / 32, 3 / 16):
        r = round(share * patches)
        found[f'falling, r = {r}'] = dict(r=r, inflection=-1)
        found[f'constant, r = {r}'] = dict(r=r)
    for share in (0.15, 0.2, 0.25, 0.3):
        found[f'share {share}'] = share
    for share, places in (
        (1 / 4, slice(0, 1)),
        (3 / 8, slice(0, 1)),
        (1 / 2, slice(0, 1)),
        (1 / 8, slice(0, 2)),
        (3 / 16, slice(0, 2)),
        (1 / 4, slice(0, 2)),
        (1 / 4, slice(1, 3)),
        (3 / 8, slice(1, 3)),
        (1 / 8, slice(2, None)),
        (3 / 16, slice(2, None)),
        (1 / 4, slice(2, None)),
    ):
        numbers = [0] * depth
        numbers[places] = [round(share * patches)] * len(numbers[places])
        found[f'r = {numbers}'] = dict(r=numbers)
    return found


class Trained:
    """A trained model, and the images of its validation.

    Args:
        config (Path): The config of its training.
        options (dict): Options of the config.
        work_dir (Path): The work dir of its training.
    """

    def __init__(self, config: Path, options: dict[str, Any], work_dir: Path) -> None:
        with isolated_globals():
            cfg = load_config(
                config,
                {
                    'log_level': 'ERROR',
                    'default_hooks.checkpoint.save_best': None,
                    'default_hooks.checkpoint.interval': -1,
                    **options,
                },
            )
            cfg.default_hooks.pop('curves')
            cfg.train_cfg.val_interval = cfg.train_cfg.max_epochs
            checkpoint = work_dir / f'epoch_{cfg.train_cfg.max_epochs}.pth'
            runner = build_runner(prepare_training(cfg, TrainOptions(), str(work_dir)))
            if not checkpoint.exists():
                runner.train()
            else:
                runner.load_checkpoint(str(checkpoint))
            self.model = runner.model.eval()
            batches = [self.model.data_preprocessor(batch, False) for batch in runner.val_dataloader]
        self.images: Tensor = torch.cat([batch['inputs'] for batch in batches])
        self.labels = torch.cat([sample.gt_label for batch in batches for sample in batch['data_samples']])

    @torch.no_grad()
    def evaluate(self, ratio: Any) -> tuple[float, float]:
        """Accuracy in percent and cross entropy, with a schedule (0: without one)."""
        merging = add_token_merging(self.model, ratio)
        logits = torch.cat([self.model(images) for images in self.images.split(128)])
        merging.undo()
        right = (logits.argmax(1) == self.labels).double().mean()
        return 100 * right.item(), F.cross_entropy(logits, self.labels).item()


def saved(model: Any, images: Tensor, schedules: dict[str, Any], rounds: int) -> dict[str, float]:
    """Return the share of the time of a forward pass that each schedule saves."""

    def with_ratio(ratio: Any) -> Any:
        def run() -> None:
            merging = add_token_merging(model, ratio)
            model(images)
            merging.undo()

        return run

    with torch.no_grad():
        timings = interleaved_timings(
            dict(whole=lambda: model(images), **{name: with_ratio(ratio) for name, ratio in schedules.items()}),
            rounds=rounds,
            clock=time.process_time,
        )
    return {name: 1 - timings[name].ratio for name in schedules}


def choose(models: list[Trained], saving: float, rounds: int) -> Optional[tuple[str, Any]]:
    """Evaluate the schedules, print them, and return the chosen one."""
    transformer = models[0].model.backbone.vit.model
    schedules = candidates(transformer.patch_embed.num_patches, len(transformer.blocks))
    savings = saved(models[0].model, models[0].images[:64], schedules, rounds)
    found = {}
    for name, ratio in [('whole', 0), *schedules.items()]:
        results = [model.evaluate(ratio) for model in models]
        found[name] = statistics.mean(a[0] for a in results), statistics.mean(a[1] for a in results)
        print(
            f'{name:<28}{found[name][0]:>9.2f} %  cross entropy {found[name][1]:.4f}  saves {savings.get(name, 0):.1%}',
            flush=True,
        )
    fast = [name for name in schedules if savings[name] >= saving]
    best = max(fast, key=lambda name: (round(found[name][0], 6), -found[name][1]), default=None)
    return None if best is None else (best, schedules[best])


def held_out(fold: int) -> dict[str, Any]:
    """Return options that hold out a fifth of the training images."""
    images = range(TRAINING_IMAGES)
    return {
        'train_dataloader.dataset.indices': [i for i in images if i % FOLDS != fold],
        'train_dataloader.dataset.split': 'train+val',
        'val_dataloader.dataset.split': 'train+val',
        'val_dataloader.dataset.indices': [*images[fold::FOLDS]],
    }


def print_summary(name: str, values: list[float], unit: str = '%') -> None:
    """Print a mean and its spread."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    print(
        f'{name}: mean {statistics.mean(values):.2f} {unit}, standard deviation {spread:.2f}, '
        f'from {min(values):.2f} to {max(values):.2f}'
    )


def main() -> None:
    """Choose a schedule, and test it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', type=Path, default=CONFIG, help='one of configs/digits with a plain transformer')
    parser.add_argument('--seeds', type=int, default=5)
    parser.add_argument('--saving', type=float, default=0.3, help="share of the model's time")
    parser.add_argument('--trained', action='store_true', help='also train with the schedule')
    parser.add_argument('--rounds', type=int, default=9, help='timings of each candidate')
    parser.add_argument('--work-dir', help='folder that keeps trained models; defaults to a temporary folder')
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        work_dir = Path(args.work_dir or folder, args.config.stem)
        chosen = choose(
            [
                Trained(
                    args.config,
                    {**held_out(seed % FOLDS), 'randomness.seed': 100 + seed},
                    work_dir / f'held_out_{seed}',
                )
                for seed in range(args.seeds)
            ],
            args.saving,
            args.rounds,
        )
        if chosen is None:
            print(f'No schedule saves {args.saving:.0%} of the time.')
            return
        name, ratio = chosen
        print(f'\nchosen: {name}, token_merging_ratio={ratio}')
        scores: dict[str, list[float]] = dict(whole=[], merged=[], trained=[])
        for seed in range(args.seeds):
            model = Trained(args.config, {**FINAL, 'randomness.seed': seed}, work_dir / f'seed_{seed}')
            scores['whole'].append(model.evaluate(0)[0])
            scores['merged'].append(model.evaluate(ratio)[0])
            if args.trained:
                trained = Trained(
                    args.config,
                    {**FINAL, 'randomness.seed': seed, 'model.backbone.token_merging_ratio': ratio},
                    work_dir / f'trained_{seed}',
                )
                scores['trained'].append(trained.evaluate(ratio)[0])
            print(
                f'seed {seed}: ' + ', '.join(f'{kind} {values[-1]:.2f} %' for kind, values in scores.items() if values),
                flush=True,
            )
        for kind, values in scores.items():
            if values:
                print_summary(kind, values)
                if kind != 'whole':
                    print_summary(
                        f'{kind} - whole',
                        [own - base for own, base in zip(values, scores['whole'], strict=True)],
                        'points',
                    )
        for what, part in (('model', model.model), ('transformer', model.model.backbone.vit)):
            share = saved(part, model.images[:64], {name: ratio}, 3 * args.rounds)[name]
            print(f'time of the {what} saved: {share:.1%}')


if __name__ == '__main__':
    main()
