"""Input pipeline: CPU time of the shipped training pipelines and of each transform, against torchvision's.

python tools/benchmark.py pipeline [--img-size 192] [--rounds 11] [FILE ...]

Without files: the two photographs that scikit-learn bundles, 640 x 427, as JPEG of quality 85. Time is that of this
process alone, on one thread. In the second table each line has its own counterpart in torchvision (v2, on images of
Pillow, the faster of its kinds); whole photographs are 12 megapixels.
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
from torchvision.transforms import InterpolationMode, v2

from hybridcls import config_path
from hybridcls.apis.timing import interleaved_timings, timing_table
from hybridcls.datasets.dataset_parts import connect_loaders
from hybridcls.engine import load_config
from hybridcls.registry import TRANSFORMS

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


def by_torchvision(size, views):
    """The augmentations of the shipped pipelines as torchvision has them: an image, decoded once, in its views."""
    crop = v2.RandomResizedCrop(size, scale=(0.2 if views == 2 else 0.08, 1), interpolation=InterpolationMode.BICUBIC)
    rand = v2.RandAugment(2, 9, interpolation=InterpolationMode.BICUBIC, fill=[124, 116, 104])
    own = [v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8), v2.RandomGrayscale(0.2), v2.PILToTensor()]
    if views == 1:
        own = [rand, v2.PILToTensor(), v2.RandomErasing(0.25, value='random')]
    augment = v2.Compose([crop, v2.RandomHorizontalFlip(), *own])

    def make(file):
        image = Image.open(file).convert('RGB')
        return [augment(image) for _ in range(views)]

    return make


def shipped(name, size):
    """The training pipeline of a shipped config."""
    cfg = load_config(config_path(name), dict(img_size=size))
    pipeline = Compose(cfg.train_dataloader.dataset.pipeline)
    connect_loaders(pipeline)
    return pipeline


def measure(functions, files, rounds):
    """Time functions of a file, all over the same files."""

    def over_files(function):
        def run():
            for file in files * REPEATS:
                function(file)

        return run

    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    runs = {name: over_files(function) for name, function in functions.items()}
    return interleaved_timings(runs, rounds=rounds, clock=time.process_time)


def transforms_of(size):
    """Each transform of the shipped pipelines and its counterpart: name -> (ours of an array, torchvision's)."""
    bicubic = InterpolationMode.BICUBIC
    rand = dict(policies='timm_increasing', num_policies=2, magnitude_level=9, magnitude_std=0.5)
    erasing = dict(erase_prob=0.25, mode='rand', fill_color=[104, 116, 124], fill_std=[57, 57, 58])
    jitter = dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, prob=0.8, grayscale_prob=0.2)
    jitters = [v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8), v2.RandomGrayscale(0.2)]
    ours_and_theirs = {
        'RandomCropToSize': (
            dict(img_size=size, interpolation='bicubic', backend='torch'),
            v2.RandomResizedCrop(size, interpolation=bicubic),
        ),
        'RandomFlip': (dict(prob=0.5), v2.RandomHorizontalFlip()),
        'FusedColorJitter': (jitter, v2.Compose(jitters)),
        'RandAugment': (
            dict(rand, hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic')),
            v2.RandAugment(2, 9, interpolation=bicubic, fill=[124, 116, 104]),
        ),
        'RandomErasing': (erasing, v2.RandomErasing(0.25, value='random')),
        'PackInputs': ({}, v2.PILToTensor()),
    }
    return {name: (TRANSFORMS.build(dict(type=name, **own)), theirs) for name, (own, theirs) in ours_and_theirs.items()}


def table_of_transforms(files, size, rounds):
    """Time each transform against its counterpart."""
    lines = [f'{"each transform at " + str(size) + " pixels":<34}  {"ms":>8}  {"torchvision":>11}  {"ratio":>6}']
    small = [np.asarray(Image.open(file).convert('RGB').resize((size, size))) for file in files]
    whole = [np.asarray(Image.open(file).convert('RGB')) for file in files]

    def add(name, ours, theirs, inputs):
        pair = measure({'theirs': theirs, 'ours': ours}, inputs, rounds)
        each = {key: timing.seconds / len(inputs) / REPEATS * 1e3 for key, timing in pair.items()}
        lines.append(f'{name:<34}  {each["ours"]:>8.3f}  {each["theirs"]:>11.3f}  {pair["ours"].ratio:>6.3f}')

    load = TRANSFORMS.build(dict(type='LoadImage'))
    add('LoadImage', lambda file: load(dict(img_path=file)), lambda file: Image.open(file).convert('RGB'), files)
    for name, (ours, theirs) in transforms_of(size).items():
        images = whole if name == 'RandomCropToSize' else small
        inputs = [(image[..., ::-1].copy(), Image.fromarray(image)) for image in images]
        if name == 'RandomErasing':
            inputs = [(array, v2.functional.pil_to_tensor(image)) for array, image in inputs]
        add(
            name,
            lambda pair, ours=ours: ours(dict(img=pair[0], gt_label=0)),
            lambda pair, theirs=theirs: theirs(pair[1]),
            inputs,
        )
    return '\n'.join(lines)


def table_of_large_photographs(folder, size, rounds):
    """Time decoding and cropping photographs of 12 megapixels."""
    image = Image.open(next(Path(folder).glob('*.jpg'))).resize((4032, 3024))
    image.save(Path(folder, 'large.jpg'), quality=90)
    crop = v2.RandomResizedCrop(size, interpolation=InterpolationMode.BICUBIC)
    ours = dict(type='RandomCropToSize', img_size=size, interpolation='bicubic', backend='torch')
    functions = {'torchvision': lambda file: crop(Image.open(file).convert('RGB'))}
    for scale in ('full', 'crop'):
        pipeline = Compose([dict(type='LoadImage', decode_scale=scale), ours])
        connect_loaders(pipeline)
        functions[f'decode_scale={scale!r}'] = lambda file, pipeline=pipeline: pipeline(dict(img_path=file))
    timings = measure(functions, [str(Path(folder, 'large.jpg'))], min(rounds, 3))
    return timing_table(timings, f'decode and crop 12 megapixels {REPEATS} times')


def main():
    """Measure."""
    args = parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    DefaultScope.get_instance('pipeline', scope_name='hybridcls')
    old = Compose(before(args.img_size))
    two, one = (
        shipped(name, args.img_size) for name in ('hybrid/supcon_convnext_swin.py', 'hybrid/ce_convnext_swin.py')
    )
    with tempfile.TemporaryDirectory() as folder:
        files = args.files or photographs(folder)
        functions = {
            'torchvision': by_torchvision(args.img_size, 2),
            'transforms of mmpretrain': lambda file: old(dict(img_path=file, gt_label=0)),
            'shipped': lambda file: two(dict(img_path=file, gt_label=0)),
            'decoding alone': cv2.imread,
        }
        what = f'{len(files)} files {REPEATS} times at {args.img_size} pixels'
        print(timing_table(measure(functions, files, args.rounds), f'two views of {what}'), '\n')
        functions = {
            'torchvision': by_torchvision(args.img_size, 1),
            'shipped': lambda file: one(dict(img_path=file, gt_label=0)),
            'decoding alone': cv2.imread,
        }
        print(timing_table(measure(functions, files, args.rounds), f'one view of {what}'), '\n')
        print(table_of_transforms(files, args.img_size, args.rounds), '\n')
        photographs(folder)
        print(table_of_large_photographs(folder, args.img_size, args.rounds))


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
