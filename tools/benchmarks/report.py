"""The report of many images and classes: seconds beyond inference, and the size of the page.

    python tools/benchmark.py report --images 10000 --classes 1302

Images and names are made up; the model is a small one with random weights, and its answers are replaced by ones that
are right for two images of three and otherwise often a neighbouring class, so that there is something to show.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

import hybridcls
from hybridcls.apis.report import make_report, model_report
from hybridcls.apis.report.evaluated_images import EvaluatedImages
from hybridcls.registry import MODELS

_NAMES = (
    'plain {}',
    '花と鳥の写真 {}',
    'سيارة حمراء {}',
    '🦊 {}',
    'long ' + 40 * 'name' + ' {}',
    '<b>&"{}"',
    "it's {}",
)


def main() -> None:
    """Make the images, the checkpoint and the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=10_000)
    parser.add_argument('--classes', type=int, default=1302)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--out', help='keep the page in this file')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        model = hybridcls.load(_checkpoint(Path(folder), args.images, args.classes), 'cpu')
        real = model_report.evaluate_images
        seconds: list[float] = []

        def answered(*given: Any, **options: Any) -> EvaluatedImages:
            began = time.monotonic()
            images = real(*given, **options)
            seconds.append(time.monotonic() - began)
            return _with_answers(images)

        began, used = time.monotonic(), time.process_time()
        with patch.object(model_report, 'evaluate_images', answered):
            report = make_report(model)
        beyond = time.monotonic() - began - sum(seconds)
    if args.out:
        Path(args.out).write_text(report.html, encoding='utf8')
    print(
        f'{args.images} images, {args.classes} classes: inference {sum(seconds):.0f} s, beyond it {beyond:.0f} s '
        f'({time.process_time() - used:.0f} s of CPU in all); page {len(report.html.encode()) / 2**20:.1f} MiB'
    )


def _checkpoint(folder: Path, count: int, classes: int) -> str:
    random = np.random.default_rng(0)
    names = sorted(_NAMES[number % len(_NAMES)].format(number) for number in range(classes))
    for number in range(count):
        place = folder / 'images' / names[number % classes]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(place / f'{number}.png')
    pipeline = [dict(type='LoadImage'), dict(type='CenterCropToSize', img_size=32), dict(type='PackInputs')]
    dataset = dict(type='ImageFolder', data_root=str(folder / 'images'), pipeline=pipeline, test_mode=True)
    cfg = dict(
        default_scope='hybridcls',
        model=dict(
            type='HybridClassifier',
            backbone=dict(type='HybridBackbone', cnn=dict(model_name='test_resnet', output='vector'), img_size=32),
            head=dict(type='LinearHead', num_classes=classes),
        ),
        test_dataloader=dict(batch_size=64, num_workers=0, dataset=dataset),
    )
    with DefaultScope.overwrite_default_scope('hybridcls'):
        model = MODELS.build(cfg['model'])
    meta = dict(cfg=Config(cfg).pretty_text, dataset_meta=dict(classes=names))
    torch.save(dict(meta=meta, state_dict=model.state_dict()), folder / 'epoch_1.pth')
    return str(folder / 'epoch_1.pth')


def _with_answers(images: EvaluatedImages) -> EvaluatedImages:
    random = np.random.default_rng(0)
    scores = random.random(images.scores.shape, dtype=np.float32) * 1e-3
    rows = np.arange(len(images))
    scores[rows, images.labels] += random.random(len(images)) + 0.3
    near = (images.labels // 4 * 4 + random.integers(0, 4, len(images))) % scores.shape[1]
    scores[rows, near] += random.random(len(images))
    images.scores = scores / scores.sum(1, keepdims=True)
    return images


if __name__ == '__main__':
    main()
