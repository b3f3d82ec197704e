"""Retrieval of classes that a training has not seen: embedding recipes against each other and the frozen model.

    python tools/benchmark.py unseen_classes --data FOLDER --model NAME --checkpoint FILE --img-size 128

FOLDER has a folder a class. For each seed half of the classes are drawn; each recipe is trained on them as a user would
type it (``hybridcls train CONFIG --data … --model … --checkpoint …``), makes its own split of them for the validation,
and then embeds all images of the other half (:func:`hybridcls.load`). Each of those is a query, and the others are the
gallery, by cosine:

- ``recall@1``: the nearest image is of the query's class,
- ``MAP@R``: Musgrave et al. 2020; it sees the whole class.

``frozen`` is timm's model with the weights of the file and its own test transform. In percent; differences to the first
recipe are paired by seed, with their standard error.
"""

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from torch import Tensor

import hybridcls
from hybridcls.command_line import run_tool
from hybridcls.datasets.image_formats import readable_extensions
from hybridcls.functional import l2_normalize
from hybridcls.functional.metrics import map_at_r

SCORES = ('recall@1', 'MAP@R')


def images_of(folder: Path) -> list[str]:
    """Return the paths of a folder's images, sorted."""
    known = readable_extensions()
    return sorted(str(path) for path in folder.rglob('*') if path.suffix.lower() in known)


def retrieval(embeddings: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the scores in percent of each image as a query for the others of its class.

    Args:
        embeddings (Tensor): ``(N, D)``.
        labels (Tensor): ``(N,)``, each class at least twice.

    Example:
        >>> square = torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.1], [-1.0, 0.3]])
        >>> retrieval(square, torch.tensor([0, 0, 1, 1]))
        {'recall@1': 100.0, 'MAP@R': 100.0}
    """
    unit, _ = l2_normalize(embeddings.double())
    similar = (unit @ unit.T).fill_diagonal_(-math.inf)
    hits = (labels[similar.argsort(dim=1, descending=True, stable=True)] == labels[:, None])[:, :-1]
    matches = hits.sum(1)
    found = hits[:, 0].double(), map_at_r(hits, matches)
    return {name: 100 * float(score.mean()) for name, score in zip(SCORES, found, strict=True)}


@torch.inference_mode()
def frozen(args: argparse.Namespace, files: Sequence[str]) -> Tensor:
    """Return timm's pooled features of the files."""
    model = timm.create_model(args.model, checkpoint_path=args.checkpoint)
    model.reset_classifier(0)
    size = {} if args.img_size is None else dict(input_size=(3, args.img_size, args.img_size))
    transform = timm.data.create_transform(**timm.data.resolve_data_config(size, model=model))
    model.eval().to(args.device)
    rows = []
    for first in range(0, len(files), 32):
        images = [transform(Image.open(path).convert('RGB')) for path in files[first : first + 32]]
        rows.append(model(torch.stack(images).to(args.device)).float().cpu())
    return torch.cat(rows)


def trained(args: argparse.Namespace, config: str, data: Path, seed: int, work_dir: Path) -> Any:
    """Train a recipe by the command line, and load what came out."""
    given = ['--data', data, '--model', args.model, '--checkpoint', args.checkpoint, '--seed', seed]
    for name in ('epochs', 'img_size'):
        if getattr(args, name) is not None:
            given += [f'--{name.replace("_", "-")}', getattr(args, name)]
    whole = ['train', config, *given, '--device', args.device, '--work-dir', work_dir, '--json']
    done = subprocess.run([sys.executable, '-m', 'hybridcls', *map(str, whole)], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise ValueError(f'unseen_classes: `hybridcls {" ".join(map(str, whole))}` ended with {done.returncode}.')
    return hybridcls.load(work_dir, device=args.device)


def compare(args: argparse.Namespace, seed: int, folder: Path) -> dict[str, dict[str, float]]:
    """Return the scores of each recipe and of the frozen model with a seed."""
    found = {path.name: images_of(path) for path in sorted(Path(args.data).iterdir()) if path.is_dir()}
    classes = sorted(name for name, files in found.items() if len(files) > 1)
    if len(classes) < 4:
        raise ValueError(
            f'unseen_classes: expected 4 classes of two images or more, got {len(classes)}. Give a folder a class.'
        )
    random.Random(seed).shuffle(classes)
    seen, unseen = classes[: len(classes) // 2], sorted(classes[len(classes) // 2 :])
    data = folder / f'seed{seed}' / 'seen'
    data.mkdir(parents=True)
    for name in seen:
        os.symlink(Path(args.data).resolve() / name, data / name)
    files = [path for name in unseen for path in found[name]]
    labels = torch.tensor([number for number, name in enumerate(unseen) for _ in found[name]])
    scores = {'frozen': retrieval(frozen(args, files), labels)}
    for config in args.configs:
        model = trained(args, config, data, seed, data.parent / config.replace('/', '_'))
        scores[config] = retrieval(torch.from_numpy(model.embed(files)), labels)
    return scores


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', required=True, help='a folder of class folders')
    parser.add_argument('--model', required=True, help='timm model')
    parser.add_argument('--checkpoint', required=True, help='its weights, a file that timm loads')
    parser.add_argument('--configs', nargs='+', default=['finetune/arcface', 'finetune/supcon_adaface'])
    parser.add_argument('--seeds', type=int, default=3, help='how many seeds, from 0 on; default: 3')
    parser.add_argument('--epochs', type=int, help='of the recipes; default: what they choose')
    parser.add_argument('--img-size', type=int, help='of all; default: that of the weights')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    return parser.parse_args()


def main() -> None:
    """Compare, and print."""
    args = arguments()
    args.data, args.checkpoint = (str(Path(path).resolve()) for path in (args.data, args.checkpoint))
    with tempfile.TemporaryDirectory() as temporary:
        rows = [compare(args, seed, Path(temporary)) for seed in range(args.seeds)]
    if args.json:
        print(json.dumps(dict(vars(args), rows=rows)))
        return
    first = args.configs[0]
    print(f'{args.model}: mean of {len(rows)} seeds (each), difference to {first}')
    for score in SCORES:
        for method in rows[0]:
            values = [row[method][score] for row in rows]
            gains = [row[method][score] - row[first][score] for row in rows]
            error = statistics.stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0
            each = ', '.join(f'{value:.1f}' for value in values)
            said = '' if method == first else f'  {statistics.mean(gains):+.1f} +- {error:.1f}'
            print(f'{score:<9} {method:<26} {statistics.mean(values):5.1f}  ({each}){said}')


if __name__ == '__main__':
    run_tool(main)
