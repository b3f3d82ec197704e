"""Backward-compatible training: can a new model's queries search an old model's index, and what does it cost?

    python tools/benchmark.py backward_compat --seeds 3                             # digits
    python tools/benchmark.py backward_compat --data FOLDER --model NAME --checkpoint FILE --epochs 5

The old model sees a part of the classes (and on the digits 300 images), the new one all of them. Each query, a
validation image, searches all other validation images by cosine; recall@1 is the share whose first match is of its
class. old -> old: the index and the queries of the old model; new -> old: the new model's queries in the old index.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import Runner
from torch import Tensor

from hybridcls.compat.mmengine import bare_model
from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_training
from hybridcls.engine.checkpoints.find_checkpoint import find_checkpoint
from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.functional import l2_normalize

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


def train(config: str, options: dict[str, Any], work_dir: Path, images: Any = None) -> tuple[Tensor, Any]:
    """Train, and return the embeddings (N, D) of the validation images of ``images`` (a loader), and that loader."""
    with isolated_globals():
        cfg = load_config(CONFIGS / config, {'log_level': 'ERROR', **options})
        runner = build_runner(prepare_training(cfg, TrainOptions(), str(work_dir)))
        runner.train()
        return embed(runner, work_dir, images), runner.val_dataloader


@torch.no_grad()
def embed(runner: Runner, work_dir: Path, images: Any) -> Tensor:
    """Return the embeddings by the checkpoint that the training chose."""
    model = bare_model(runner.model).eval()
    chosen = torch.load(find_checkpoint(work_dir).path, map_location='cpu', weights_only=False)['state_dict']
    model.load_state_dict(chosen, strict=False)
    rows = [sample.embedding for data in images or runner.val_dataloader for sample in model.test_step(data)]
    return l2_normalize(torch.stack(rows))[0]


def recall(queries: Tensor, index: Tensor, labels: Tensor) -> float:
    """Return the percentage of queries whose first match, itself left out, is of its class."""
    similarities = queries[:, : index.shape[1]] @ index.T
    similarities.fill_diagonal_(-2)
    return float((labels[similarities.argmax(1)] == labels).float().mean() * 100)


def main() -> None:
    """Print the recalls of each seed, and their means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--data', help='folder of class folders; default: the digits')
    parser.add_argument('--model', default='tf_efficientnet_lite0')
    parser.add_argument('--checkpoint', help='weights that both models start from')
    parser.add_argument('--img-size', type=int, default=80)
    parser.add_argument('--epochs', type=int, default=20)
    parser.add_argument('--old-epochs', type=int, default=8)
    parser.add_argument('--recipe', help='of the new model; default: digits/backward_compat or finetune/arcface')
    parser.add_argument('--old-recipe', help='of the old model; default: digits/ce_hybrid or finetune/full')
    parser.add_argument('--weight', type=float, default=1.0, help='influence_weight')
    parser.add_argument('--alignment', type=float, default=0.0, help='alignment_weight')
    parser.add_argument('--classifier', default='auto')
    args = parser.parse_args()
    new, old = _options(args)
    recipe = args.recipe or ('finetune/arcface' if args.data else 'digits/backward_compat')
    old_recipe = args.old_recipe or ('finetune/full' if args.data else 'digits/ce_hybrid')
    scores: dict[str, list[float]] = {}
    for seed in range(args.seeds):
        seeded = {'randomness.seed': seed}
        with tempfile.TemporaryDirectory() as folder:
            compat = {
                'backward_compat': str(Path(folder, 'old')),
                'default_hooks.backward_compat.loss': dict(
                    influence_weight=args.weight, alignment_weight=args.alignment
                ),
                'default_hooks.backward_compat.classifier': args.classifier,
            }
            alone, images = train(f'{recipe}.py', {**new, **seeded}, Path(folder, 'alone'))
            before, _ = train(f'{old_recipe}.py', {**old, **seeded}, Path(folder, 'old'), images)
            after, _ = train(f'{recipe}.py', {**new, **seeded, **compat}, Path(folder, 'compat'))
        samples = images.dataset
        labels = torch.tensor([samples.get_data_info(number)['gt_label'] for number in range(len(samples))]).flatten()
        found = {
            'old -> old': recall(before, before, labels),
            'new -> old': recall(after, before, labels),
            'new -> new': recall(after, after, labels),
            'alone -> old': recall(alone, before, labels) if alone.shape[1] >= before.shape[1] else 0.0,
            'alone -> alone': recall(alone, alone, labels),
        }
        for name, value in found.items():
            scores.setdefault(name, []).append(value)
        print(f'seed {seed}: ' + ', '.join(f'{name} {value:.2f}' for name, value in found.items()), flush=True)
    for name, values in scores.items():
        print(f'{name:14}  recall@1 {statistics.mean(values):.2f} %  ({min(values):.2f} to {max(values):.2f})')


def _options(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of the new and of the old training."""
    if args.data is None:
        old = {'max_epochs': args.old_epochs, 'train_dataloader.dataset.indices': 300}
        for part in ('train', 'val'):
            old[f'{part}_dataloader.dataset.digits'] = tuple(range(7))
        return {'max_epochs': args.epochs}, {**old, 'num_classes': 7}
    new = dict(
        data_root=args.data, model_name=args.model, checkpoint_path=args.checkpoint, img_size=args.img_size,
        max_epochs=args.epochs,
    )  # fmt: skip
    classes = sorted(path.name for path in Path(args.data).iterdir() if path.is_dir())
    part = tempfile.mkdtemp()
    for name in classes[: len(classes) * 7 // 10]:
        Path(part, name).symlink_to(Path(args.data, name).resolve())
    return new, {**new, 'data_root': part, 'max_epochs': args.old_epochs}


if __name__ == '__main__':
    main()
