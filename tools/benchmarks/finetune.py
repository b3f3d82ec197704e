"""A recipe on a folder of images against a logistic regression on frozen features and a plain timm loop.

    python tools/benchmark.py finetune --data FOLDER --model NAME --checkpoint FILE --img-size 128

For each seed ``hybridcls train CONFIG --data FOLDER --model NAME --checkpoint FILE`` is run as a user would type it,
then ``hybridcls test`` of its work dir: on the images for the test, or without such on those of the validation. Two
baselines get the same files:

- ``logistic regression``: scikit-learn's on the features of the frozen model (timm's own test transform), C chosen by
  three-fold cross validation of the training images.
- ``plain loop``: PyTorch and timm with what a careful hand would write: AdamW, a learning rate of the head that is ten
  times that of the backbone, no decay of biases and norms, warm-up and cosine, random crops and flips, label smoothing,
  the weights of the epoch that is best on the validation. It gets as many seconds of processor time as the recipe's
  whole process took (seconds on the clock with ``--device cuda``); what it needs to find how many epochs fit counts.

Accuracies in percent; the difference to the better baseline is paired by seed, with its standard error.
"""

import argparse
import copy
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
from mmengine.config import Config
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from hybridcls.command_line import run_tool
from hybridcls.registry import DATASETS

METHODS = ('recipe', 'logistic regression', 'plain loop')
PENALTIES = (0.01, 0.1, 1.0, 10.0)


class Files(Dataset):
    """Image files with labels.

    Args:
        files (Sequence[tuple[str, int]]): Path and label of each.
        transform (Callable): Takes a PIL image in RGB, on white where it is transparent.
    """

    def __init__(self, files: Sequence[tuple[str, int]], transform: Callable) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.files[index]
        with Image.open(path) as image:
            if image.mode in ('P', 'LA', 'PA', 'RGBA'):
                image = image.convert('RGBA')
                image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)
            return self.transform(image.convert('RGB')), label


class Difference(NamedTuple):
    """Recipe less baseline, paired by seed.

    Args:
        baseline (str): The better of the two, by its mean.
        mean (float): In percentage points.
        standard_error (float): Of the mean; 0 with a single seed.
    """

    baseline: str
    mean: float
    standard_error: float

    @property
    def is_as_good(self) -> bool:
        """Whether the recipe is no more than one standard error below."""
        return self.mean >= -self.standard_error


def difference(rows: Sequence[dict[str, Any]]) -> Difference:
    """Compare the recipe with the better baseline.

    Example:
        >>> rows = [{'recipe': 80.0, 'logistic regression': 79.0, 'plain loop': 70.0},
        ...         {'recipe': 82.0, 'logistic regression': 85.0, 'plain loop': 71.0}]
        >>> difference(rows)
        Difference(baseline='logistic regression', mean=-1.0, standard_error=2.0)
        >>> difference(rows).is_as_good
        True
    """
    baseline = max(METHODS[1:], key=lambda name: statistics.mean(row[name] for row in rows))
    gains = [row['recipe'] - row[baseline] for row in rows]
    spread = statistics.stdev(gains) if len(gains) > 1 else 0.0
    return Difference(baseline, statistics.mean(gains), spread / math.sqrt(len(gains)))


def command(*words: Any) -> dict[str, Any]:
    """Run ``hybridcls`` and return what it says with ``--json``."""
    whole = [sys.executable, '-m', 'hybridcls', *map(str, words), '--json']
    done = subprocess.run(whole, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise ValueError(f'finetune: `hybridcls {" ".join(map(str, words))}` ended with {done.returncode}.')
    return json.loads(done.stdout)


def seconds(args: argparse.Namespace) -> float:
    """Return processor time of this process and of the children that have ended; on a GPU the clock."""
    if args.device != 'cpu':
        return time.monotonic()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def run_recipe(args: argparse.Namespace, seed: int, work_dir: Path) -> float:
    """Train and test by the command line; return the seconds of the training."""
    given = ['--data', args.data, '--model', args.model, '--checkpoint', args.checkpoint, '--seed', seed]
    for name in ('epochs', 'img_size', 'batch_size'):
        if getattr(args, name) is not None:
            given += [f'--{name.replace("_", "-")}', getattr(args, name)]
    began = seconds(args)
    command('train', args.config, *given, '--device', args.device, '--work-dir', work_dir)
    return seconds(args) - began


def files_of(cfg: Config, part: str) -> list[tuple[str, int]]:
    """Return path and label of the images of a dataloader, with the labels of the training."""
    with DATASETS.switch_scope_and_registry('hybridcls') as registry:
        train, dataset = (
            registry.build(
                {key: value for key, value in cfg[f'{name}_dataloader'].dataset.items() if key != 'pipeline'}
            )
            for name in ('train', part)
        )
    numbers = {name: number for number, name in enumerate(train.metainfo['classes'])}
    names = dataset.metainfo['classes']
    infos = (dataset.get_data_info(index) for index in range(len(dataset)))
    return [(info['img_path'], numbers[names[info['gt_label']]]) for info in infos]


def build_model(args: argparse.Namespace, num_classes: int) -> nn.Module:
    """Return the timm model with the weights of the file, and a new classifier; a plain transformer takes the size."""
    size = {} if args.img_size is None else dict(img_size=args.img_size)
    try:
        model = timm.create_model(args.model, checkpoint_path=args.checkpoint, **size)
    except TypeError:  # a network of convolutions
        model = timm.create_model(args.model, checkpoint_path=args.checkpoint)
    model.reset_classifier(num_classes)
    return model.to(args.device)


def transforms_of(args: argparse.Namespace, model: nn.Module) -> tuple[Callable, Callable]:
    """Return the transforms of the training and of the test: timm's numbers of the model."""
    size = {} if args.img_size is None else dict(input_size=(3, args.img_size, args.img_size))
    data = timm.data.resolve_data_config(size, model=model)
    crop = transforms.RandomResizedCrop(data['input_size'][1:], (0.35, 1.0), interpolation=InterpolationMode.BICUBIC)
    tensor = [transforms.ToTensor(), transforms.Normalize(data['mean'], data['std'])]
    train = transforms.Compose([crop, transforms.RandomHorizontalFlip(), *tensor])
    return train, timm.data.create_transform(**data)


@torch.inference_mode()
def outputs_of(args: argparse.Namespace, model: nn.Module, files: Files) -> np.ndarray:
    """Return the outputs of the model for all files, in order."""
    model.eval()
    loader = DataLoader(files, 64, num_workers=args.workers)
    return torch.cat([model(images.to(args.device)).float().cpu() for images, _ in loader]).numpy()


def accuracy(outputs: np.ndarray, files: Files) -> float:
    """Return the top-1 accuracy in percent."""
    return 100 * float(np.mean(outputs.argmax(1) == [label for _, label in files.files]))


def logistic_regression(args: argparse.Namespace, parts: Sequence[list[tuple[str, int]]]) -> float:
    """Return the test accuracy of a logistic regression on the frozen model's features."""
    model = build_model(args, 0)
    _, transform = transforms_of(args, model)
    train, test = Files(parts[0], transform), Files(parts[2], transform)
    features, labels = outputs_of(args, model, train), np.array([label for _, label in train.files])
    mean, scale = features.mean(0), features.std(0).mean()  # one scale: better than one for each feature
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(LogisticRegression(max_iter=1000), dict(C=PENALTIES), cv=folds)
    search.fit((features - mean) / scale, labels)
    return 100 * float(search.score((outputs_of(args, model, test) - mean) / scale, [label for _, label in test.files]))


def plain_loop(
    args: argparse.Namespace, parts: Sequence[list[tuple[str, int]]], num_classes: int, seed: int, budget: float
) -> tuple[float, int]:
    """Fine-tune for ``budget`` seconds; return the test accuracy of the best epoch, and how many epochs that were."""
    began = seconds(args)
    torch.manual_seed(seed)
    model = build_model(args, num_classes)
    augment, transform = transforms_of(args, model)
    train, val, test = (Files(files, way) for files, way in zip(parts, (augment, transform, transform), strict=True))
    batch = min(args.batch_size or 32, len(train))
    loader = DataLoader(train, batch, shuffle=True, drop_last=True, num_workers=args.workers)
    optimizer = torch.optim.AdamW(parameter_groups(model), weight_decay=0.05)
    rates = [group['lr'] for group in optimizer.param_groups]
    epoch, epochs, best, kept = 0, 2, -1.0, {}
    while epoch < epochs:
        model.train()
        for number, (images, labels) in enumerate(loader):
            done = number / len(loader) if epoch == 0 else (epoch - 1 + number / len(loader)) / (epochs - 1)
            factor = done if epoch == 0 else 0.5 + 0.5 * math.cos(math.pi * done)  # the first epoch is the warm-up
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group['lr'] = rate * factor
            loss = cross_entropy(model(images.to(args.device)), labels.to(args.device), label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
        score = accuracy(outputs_of(args, model, val), val)
        if score >= best:
            best, kept = score, copy.deepcopy(model.state_dict())
        epoch += 1
        if epoch == 1:
            used = seconds(args) - began
            epochs = 1 + max(1, round((budget - used) / used))
    model.load_state_dict(kept)
    return accuracy(outputs_of(args, model, test), test), epochs


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Return the groups of the optimizer: 3e-3 for the new classifier, 3e-4 for the rest, decay of matrices only."""
    head = {id(param) for param in model.get_classifier().parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for param in model.parameters():
        groups.setdefault((id(param) in head, param.dim() > 1), []).append(param)
    return [
        dict(params=params, lr=3e-3 if is_head else 3e-4, **({} if decays else dict(weight_decay=0.0)))
        for (is_head, decays), params in groups.items()
    ]


def compare(args: argparse.Namespace, seed: int, folder: Path) -> dict[str, Any]:
    """Run the three methods with a seed, and return their accuracies."""
    work_dir = folder / f'seed{seed}'
    budget = run_recipe(args, seed, work_dir)
    result = command('test', work_dir, '--device', args.device)
    cfg = Config.fromfile(next(work_dir.glob('*.py')))
    parts = [files_of(cfg, part) for part in ('train', 'val', 'test')]
    num_classes = 1 + max(label for _, label in parts[0])
    frozen = logistic_regression(args, parts)
    began = seconds(args)
    plain, epochs = plain_loop(args, parts, num_classes, seed, budget)
    return {
        'seed': seed,
        'images': [len(part) for part in parts],
        'recipe': result['metrics']['accuracy/top1'],
        'logistic regression': frozen,
        'plain loop': plain,
        'seconds': budget,
        'plain seconds': seconds(args) - began,
        'plain epochs': epochs,
    }


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', required=True, help='folder of images, as for hybridcls train')
    parser.add_argument('--model', required=True, help='timm model')
    parser.add_argument('--checkpoint', required=True, help='its weights, a file that timm loads')
    parser.add_argument('--config', default='finetune/full', help='recipe; default: finetune/full')
    parser.add_argument('--seeds', type=int, default=3, help='how many seeds, from 0 on; default: 3')
    parser.add_argument('--epochs', type=int, help='of the recipe; default: what it chooses')
    parser.add_argument('--img-size', type=int, help='of all three; default: that of the weights')
    parser.add_argument('--batch-size', type=int, help='of the recipe and the plain loop; default: its choice, and 32')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--workers', type=int, default=0, help='processes that load images for the baselines')
    parser.add_argument('--work-dir', help='keep the trainings here; default: a temporary folder')
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    return parser.parse_args()


def main() -> None:
    """Compare, and print."""
    args = arguments()
    args.data, args.checkpoint = (str(Path(path).resolve()) for path in (args.data, args.checkpoint))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.work_dir or temporary).resolve()
        rows = [compare(args, seed, folder) for seed in range(args.seeds)]
    found = difference(rows)
    if args.json:
        print(json.dumps(dict(vars(args), rows=rows, **found._asdict(), is_as_good=found.is_as_good)))
        return
    train, val, test = rows[0]['images']
    print(f'{args.model}, {args.config}: {train} images to train on, {val} to validate, {test} to test')
    print('seed     ' + '  '.join(METHODS) + '  (seconds: recipe, plain loop; its epochs)')
    lines = [*rows, dict(seed='mean', **{name: statistics.mean(row[name] for row in rows) for name in METHODS})]
    for row in lines:
        scores = '  '.join(f'{row[name]:>{len(name)}.2f}' for name in METHODS)
        spent = (
            f'  ({row["seconds"]:.0f}, {row["plain seconds"]:.0f}; {row["plain epochs"]})' if 'seconds' in row else ''
        )
        print(f'{row["seed"]!s:<7}  {scores}{spent}')
    verdict = 'as good' if found.is_as_good else 'WORSE'
    print(f'recipe - {found.baseline}: {found.mean:+.2f} +- {found.standard_error:.2f} (standard error): {verdict}')


if __name__ == '__main__':
    run_tool(main)
