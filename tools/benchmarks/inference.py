"""Inference: images per second against a bare timm loop, and the start-up of a prediction against its imports.

python tools/benchmark.py inference [--model tf_efficientnet_lite0] [--threads 1] [--workers 1] [--rounds 7] [FILE ...]

Both decode and resize by OpenCV, in as many processes (the loop) or threads (hybridcls), and end in class and score.
Without files: the two photographs that scikit-learn bundles, 32 times each. Weights are random.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import timm
import torch
from mmengine.config import Config
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import hybridcls
from hybridcls.apis.timing import interleaved_timings, timing_table
from hybridcls.registry import MODELS

CLASSES = 100
CROP = 0.875


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('files', nargs='*', help='image files')
    parser.add_argument('--model', default='tf_efficientnet_lite0', help='timm model')
    parser.add_argument('--img-size', type=int, default=224)
    parser.add_argument('--batch-size', type=int, default=32)
    parser.add_argument('--threads', type=int, default=1, help='of PyTorch')
    parser.add_argument('--workers', type=int, default=1, help='that read images ahead; 0: none')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--cpu-time', action='store_true', help='count what this process computes (with --workers 0)')
    return parser.parse_args()


def photographs(folder):
    """Write the photographs of scikit-learn into a folder."""
    from sklearn.datasets import load_sample_images

    for number, image in enumerate(load_sample_images().images):
        Image.fromarray(image).save(Path(folder, f'{number}.jpg'), quality=85)
    return sorted(map(str, Path(folder).glob('*.jpg'))) * 32


def write_checkpoint(path, args):
    """Write a checkpoint as a training does, with random weights."""
    pipeline = [
        dict(type='LoadImage'),
        dict(type='CenterCropToSize', img_size=args.img_size, crop_pct=CROP, backend='cv2'),
        dict(type='PackInputs'),
    ]
    cfg = Config(
        dict(
            default_scope='hybridcls',
            model=dict(
                type='HybridClassifier',
                backbone=dict(type='HybridBackbone', cnn=dict(model_name=args.model, output='vector')),
                head=dict(type='LinearHead', num_classes=CLASSES),
            ),
            test_dataloader=dict(
                batch_size=args.batch_size,
                collate_fn=dict(type='default_collate'),
                dataset=dict(type='ImageFolder', pipeline=pipeline),
            ),
        )
    )
    model = MODELS.build(cfg.model)
    classes = [f'class {number}' for number in range(CLASSES)]
    meta = dict(cfg=cfg.pretty_text, dataset_meta=dict(classes=classes), preprocessing_version=2)
    torch.save(dict(meta=meta, state_dict=model.state_dict()), path)


class Files(Dataset):
    """Images decoded, resized and cropped by OpenCV alone."""

    def __init__(self, files, size):
        self.files, self.size, self.edge = files, size, int(size / CROP)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, number):
        image = cv2.imread(self.files[number])
        height, width = image.shape[:2]
        scale = self.edge / min(height, width)
        image = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_CUBIC)
        top, left = (image.shape[0] - self.size) // 2, (image.shape[1] - self.size) // 2
        image = image[top : top + self.size, left : left + self.size, ::-1]
        return torch.from_numpy(image.transpose(2, 0, 1).copy())


def bare_loop(args, files):
    """What one writes with timm and PyTorch alone."""
    model = timm.create_model(args.model, num_classes=CLASSES).eval()
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(3, 1, 1) for key in ('mean', 'std'))
    loader = DataLoader(Files(files, args.img_size), args.batch_size, num_workers=args.workers)

    def run():
        answers = []
        with torch.no_grad():
            for images in loader:
                scores = model((images / 255 - mean) / std).softmax(1)
                best, labels = scores.max(1)
                answers += zip(labels.tolist(), best.tolist(), strict=True)
        return answers

    return run


def main():
    """Measure."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        files = args.files or photographs(folder)
        checkpoint = str(Path(folder, 'checkpoint.pth'))
        write_checkpoint(checkpoint, args)
        model = hybridcls.load(checkpoint, 'cpu')
        timings = interleaved_timings(
            {
                'bare timm loop': bare_loop(args, files),
                'hybridcls': lambda: list(model(files, workers=args.workers, top_k=1)),
            },
            rounds=args.rounds,
            warmup=1,
            clock=time.process_time if args.cpu_time else time.perf_counter,
        )
        what = f'{len(files)} images, {args.model}, {args.img_size} px, batch {args.batch_size}'
        print(timing_table(timings, f'{what}, {args.threads} threads, {args.workers} workers'))
        print(f'images per second of hybridcls / of the loop: {1 / timings["hybridcls"].ratio:.3f}')
        python = [sys.executable, '-W', 'ignore']
        commands = {
            'imports alone': [*python, '-c', 'import torch, timm, mmengine, mmpretrain'],
            'hybridcls predict, one image': [*python, '-m', 'hybridcls', 'predict', checkpoint, files[0]],
        }
        timings = interleaved_timings(
            {name: lambda command=command: call(command) for name, command in commands.items()}, rounds=args.rounds
        )
        print(timing_table(timings, 'start-up, whole commands'))


def call(command):
    """Run a command, silently."""
    subprocess.run(command, check=True, capture_output=True)


if __name__ == '__main__':
    main()
