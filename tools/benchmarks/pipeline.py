"""Input pipeline: CPU time of the shipped two-view pipeline per image file, against torchvision's.

python tools/benchmark.py pipeline [--img-size 192] [--rounds 11] [FILE ...]

Without files: the two photographs that scikit-learn bundles, 640 x 427, as JPEG of quality 85. Time is that of this
process alone, on one thread.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from PIL import Image
from torchvision import transforms

from hybridcls import config_path
from hybridcls.apis.timing import interleaved_timings, timing_table
from hybridcls.engine import load_config

REPEATS = 10  # in a round, since what is drawn decides how long a view takes


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('files', nargs='*', help='image files')
    parser.add_argument('--img-size', type=int, default=192)
    parser.add_argument('--rounds', type=int, default=11)
    return parser.parse_args()


def photographs(folder):
    """Write the photographs of scikit-learn into a folder."""
    from sklearn.datasets import load_sample_images

    for number, image in enumerate(load_sample_images().images):
        Image.fromarray(image).save(Path(folder, f'{number}.jpg'), quality=85)
    return sorted(map(str, Path(folder).glob('*.jpg')))


def by_torchvision(size):
    """The augmentations of SimCLR and SupCon as their codes write them: an image, decoded once, in two views."""
    augment = transforms.Compose(
        [
            transforms.RandomResizedCrop(
                size, scale=(0.2, 1.0), interpolation=transforms.InterpolationMode.BICUBIC, antialias=True
            ),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
            transforms.RandomGrayscale(0.2),
            transforms.PILToTensor(),
        ]
    )

    def views(file):
        image = Image.open(file).convert('RGB')
        return augment(image), augment(image)

    return views


def main():
    """Measure."""
    args = parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    DefaultScope.get_instance('pipeline', scope_name='hybridcls')
    cfg = load_config(config_path('hybrid/supcon_convnext_swin.py'), dict(img_size=args.img_size))
    shipped, old = Compose(cfg.train_dataloader.dataset.pipeline), Compose(before(args.img_size))
    torchvision = by_torchvision(args.img_size)
    with tempfile.TemporaryDirectory() as folder:
        files = args.files or photographs(folder)

        def over_files(pipeline):
            def run():
                for file in files * REPEATS:
                    pipeline(file)

            return run

        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        torch.manual_seed(0)
        timings = interleaved_timings(
            {
                'torchvision': over_files(torchvision),
                'transforms of mmpretrain': over_files(lambda file: old(dict(img_path=file, gt_label=0))),
                'shipped': over_files(lambda file: shipped(dict(img_path=file, gt_label=0))),
                'decoding alone': over_files(cv2.imread),
            },
            rounds=args.rounds,
            clock=time.process_time,
        )
    print(timing_table(timings, f'two views of {len(files)} files {REPEATS} times at {args.img_size} pixels'))


def before(size):
    """The same augmentations of mmpretrain's transforms: Pillow's resizing, colours in floating point, deep copies."""
    jitter = dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    crop = dict(type='RandomCropToSize', img_size=size, crop_ratio_range=(0.2, 1.0), interpolation='bicubic')
    view = [
        dict(crop, backend='pillow'),
        dict(type='RandomFlip', prob=0.5),
        dict(type='RandomApply', transforms=[jitter], prob=0.8),
        dict(type='RandomGrayscale', prob=0.2, keep_channels=True),
    ]
    return [
        dict(type='LoadImage'),
        dict(type='MultiView', num_views=2, transforms=[view]),
        dict(type='PackInputs'),
    ]


if __name__ == '__main__':
    main()
