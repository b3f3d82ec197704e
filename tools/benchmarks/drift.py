"""Drift: false alarms over streams in which nothing changes, and how many images an alarm takes after a shift.

    python tools/benchmark.py drift                        # scores drawn from a beta distribution
    python tools/benchmark.py drift ARTIFACT --data FOLDER [--new-class FOLDER]  # those of an exported model

FOLDER has images that trained nothing and are not the reference of the artifact; each stream draws a reference and then
its own images from them. The shifts are made of these images, at the size that the network takes: two blurs, another
camera (gamma 1.6, warmer, noise), a mild one (gamma 1.25), noise, and images of another class among the others.
The bound is the 99 % quantile of the binomial distribution of alarms.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from scipy.stats import binom

from hybridcls.apis.artifact.reference import reference_of
from hybridcls.apis.artifact.shipped.alarm import BINS, Martingales, bins_of, pixel_scores, scores_of
from hybridcls.apis.artifact.shipped.runtime import Model
from hybridcls.apis.image_inputs import read_inputs

ALPHAS = (0.01, 0.05)


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('artifact', nargs='?')
    parser.add_argument('--data', metavar='FOLDER', help='images in class folders, or without')
    parser.add_argument('--new-class', metavar='FOLDER', help='images of a class that the model does not have')
    parser.add_argument('--references', nargs='+', type=int, default=[100, 300, 1000], help='numbers of images')
    parser.add_argument('--streams', type=int, default=200)
    parser.add_argument('--length', type=int, default=5000)
    parser.add_argument('--shifted-streams', type=int, default=30)
    parser.add_argument('--before', type=int, default=500, help='images before a shift')
    parser.add_argument('--after', type=int, default=1000, help='images after it')
    args = parser.parse_args()
    if (args.artifact is None) != (args.data is None):
        parser.error('expected ARTIFACT and --data FOLDER, or neither.')
    return args


def evidence(counts, bins, seed):
    """Return the largest evidence up to each image, (T, S), of streams of rounded scores (S, T)."""
    kept, draw = Martingales(counts), np.random.default_rng(seed)
    return np.maximum.accumulate([kept.update(one, draw.random(len(one))) for one in bins.T])


def synthetic(images, streams, length, seed=0):
    """Return the largest evidence of each stream of synthetic scores, (streams,)."""
    scores = bins_of(np.random.default_rng([seed, images]).beta(0.3, 3, (streams, images + length)))
    counts = np.stack([np.bincount(row, minlength=BINS) for row in scores[:, :images]])
    return evidence(counts, scores[:, images:], seed)[-1]


def say_false_alarms(name, images, highest):
    """Print how many of the streams raised an alarm."""
    text = [f'{name:<10} {images:>6}']
    for alpha in ALPHAS:
        text.append(f'{(highest >= 1 / alpha).sum():>6} ({binom.ppf(0.99, len(highest), alpha):.0f})')
    print('  '.join(text), flush=True)


def prepared(model, folder):
    """Return the images below a folder as the network takes them."""
    return np.stack([model.prepare(item.source) for item in read_inputs(folder, 'drift').items])


def shifted(images):
    """Yield a name and images for each shift."""
    draw = np.random.default_rng(0)

    def blurred(radius):
        return np.stack([np.asarray(Image.fromarray(one).filter(ImageFilter.GaussianBlur(radius))) for one in images])

    def camera(gamma, gains, noise):
        values = (images / 255) ** gamma * np.array(gains) * 255 + draw.normal(size=images.shape) * noise
        return np.clip(np.rint(values), 0, 255).astype(np.uint8)

    yield 'blur 2', blurred(2)
    yield 'blur 1', blurred(1)
    yield 'camera', camera(1.6, (1, 0.85, 0.7), 12)
    yield 'mild', camera(1.25, (1, 0.95, 0.85), 4)
    yield 'noise', camera(1, (1, 1, 1), 20)


def outputs_of(model, images):
    """Return what the alarm needs of images."""
    parts = [
        {**{name: of for name, of in model.run(part).items() if name != 'logits'}, **pixel_scores(part)}
        for part in np.array_split(images, range(64, len(images), 64))
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def some(draw, outputs, count):
    """Return the outputs of images that are drawn with replacement."""
    rows = draw.integers(0, len(next(iter(outputs.values()))), count)
    return {name: values[rows] for name, values in outputs.items()}


class Streams:
    """Streams of real images, each with a reference (and class means) of its own; all drawn with replacement."""

    def __init__(self, same, images, count):
        self.draws = [np.random.default_rng([images, one]) for one in range(count)]
        self.references = [reference_of(some(draw, same, images)) for draw in self.draws]
        self.names = self.references[0]['names'].tolist()
        self.counts = np.concatenate([one['counts'] for one in self.references])

    def draw(self, outputs, length):
        """Return the rounded scores of images drawn from outputs, (streams, S, length)."""
        found = []
        for draw, reference in zip(self.draws, self.references, strict=True):
            scores = scores_of(some(draw, outputs, length), reference['means'])
            found.append([bins_of(scores[name]) for name in self.names])
        return np.array(found)

    def highest(self, bins):
        """Return the largest evidence up to each image of any score, over the number of scores, (T, streams)."""
        found = evidence(self.counts, bins.reshape(-1, bins.shape[2]), 0)
        return found.reshape(len(found), len(bins), -1).max(2) / len(self.names)


def real(args):
    """Measure with the images and the exported graph."""
    model = Model(args.artifact)
    images = prepared(model, args.data)
    same = outputs_of(model, images)
    print(f'\n{len(images)} images of {Path(args.data).name}')
    for count in args.references:
        streams = Streams(same, count, args.streams)
        say_false_alarms('real', count, streams.highest(streams.draw(same, args.length))[-1])
    shifts = {name: (outputs_of(model, one), 1.0) for name, one in shifted(images)}
    if args.new_class:
        of_class = outputs_of(model, prepared(model, args.new_class))
        shifts |= {f'new class, {share:.0%}': (of_class, share) for share in (1.0, 0.3, 0.1)}
    print(f'\nalpha {ALPHAS[0]:g}; the shift comes after {args.before} images of {args.shifted_streams} streams')
    print(f'{"shift":<16} {"reference":>9} {"found":>6} {"median delay":>13} {"90 %":>6} {"before it":>10}')
    for name, (outputs, share) in shifts.items():
        for count in args.references:
            streams = Streams(same, count, args.shifted_streams)
            before, after = streams.draw(same, args.before), streams.draw(outputs, args.after)
            if share < 1:
                kept = np.random.default_rng(0).random((len(after), 1, args.after)) >= share
                after = np.where(kept, streams.draw(same, args.after), after)
            hits = streams.highest(np.concatenate([before, after], 2)) >= 1 / ALPHAS[0]
            delays = np.where(hits.any(0), hits.argmax(0) + 1.0 - args.before, np.inf)
            found = delays[delays > 0]
            middle, late = np.quantile(found, [0.5, 0.9], method='higher')
            print(
                f'{name:<16} {count:>9} {np.isfinite(found).sum():>3}/{len(found)} {middle:>13.0f} {late:>6.0f} '
                f'{(delays <= 0).sum():>10}',
                flush=True,
            )


def main():
    """Measure."""
    args, began = parse_args(), time.monotonic()
    print(f'alarms in {args.streams} streams of {args.length} images in which nothing changes (bound)')
    print('  '.join([f'{"scores":<10} {"images":>6}', *(f'alpha {alpha:<5g}' for alpha in ALPHAS)]))
    for images in args.references:
        say_false_alarms('synthetic', images, synthetic(images, args.streams, args.length))
    if args.artifact:
        real(args)
    print(f'{time.monotonic() - began:.0f} s')


if __name__ == '__main__':
    main()
