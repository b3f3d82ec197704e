"""Slices: how often one appears where errors are shuffled, and how many of the planted ones are found.

    python tools/benchmark.py slices [--images 50 300 3000] [--rates 0.01 0.05 0.1] [--shuffles 100]

The images are simulated: ten classes, the look of the images, two columns of a table, a gate, embeddings and their
clusters. Shuffled: errors are drawn over all images, without a look at any attribute; counted is in how many of the
shuffles at least one slice appears, which 99 % of fair searches keep at or below the bound in the last row. Planted:
the images of a slice are wrong with a higher probability; counted is how often the first slice of the list is it (more
than half of either).
"""

import argparse
import time

import numpy as np
from scipy.stats import binom

from hybridcls.apis.audit.slice_attributes import Attribute, class_attribute, cluster_attributes, column_attribute
from hybridcls.apis.audit.slices import find_slices

CLASSES = [f'class {k}' for k in range(10)]
PLANTED = ('dark', 'camera', 'cluster', 'pair')


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--images', nargs='+', type=int, default=[50, 300, 3000])
    parser.add_argument('--rates', nargs='+', type=float, default=[0.01, 0.05, 0.1])
    parser.add_argument('--shuffles', type=int, default=100)
    parser.add_argument('--plants', type=int, default=20)
    return parser.parse_args()


def simulate(images, seed):
    """Return labels and attributes that depend on each other, and on nothing else."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, len(CLASSES), images)
    light = generator.beta(3, 3, images)
    beside = generator.normal(size=(images, 16)) + light[:, None]
    embeddings = 2 * generator.normal(size=(len(CLASSES), 16))[labels] + beside
    cameras = generator.choice(['A', 'B', 'C', 'D', 'E'], images, p=[0.4, 0.25, 0.2, 0.1, 0.05])
    attributes = [
        Attribute('brightness', light, 'dark', 'bright'),
        Attribute('contrast', generator.beta(2, 5, images) / 2, 'low-contrast', 'high-contrast'),
        Attribute('saturation', np.clip(light + generator.normal(0, 0.2, images), 0, 1), 'pale', 'colourful'),
        Attribute('sharpness', generator.gamma(2, 0.1, images), 'blurred', 'sharp'),
        Attribute('shorter side', generator.choice([224.0, 480, 500, 640, 768], images), 'small', 'large'),
        Attribute('aspect ratio', np.exp(generator.normal(0, 0.3, images)), 'upright', 'wide'),
        Attribute('gate', generator.beta(5, 5, images), 'transformer-leaning', 'CNN-leaning'),
        column_attribute('camera', list(cameras)),
        column_attribute('year', list(map(str, generator.integers(2000, 2020, images)))),
        class_attribute(labels, CLASSES),
        *cluster_attributes(embeddings, labels, CLASSES),
    ]
    return labels, attributes


def shuffled(images, errors, rate, shuffles):
    """Count the shuffles in which a slice appears."""
    count = 0
    labels, attributes = simulate(images, images)
    wrong = np.zeros(images, dtype=bool)
    wrong[:errors] = True
    for shuffle in range(shuffles):
        drawn = np.random.default_rng([errors, shuffle]).permutation(wrong)
        count += bool(find_slices(attributes, dict(wrong=drawn), labels, rate, seed=shuffle).found)
    return count


def members_of(kind, attributes, generator):
    """Return the images of a planted slice."""
    values = {one.name: one.values for one in attributes}
    dark = values['brightness'] < np.quantile(values['brightness'], 0.14 if kind == 'dark' else 0.35)
    if kind == 'cluster':
        return values['cluster'] == generator.choice(np.unique(values['cluster']))
    return {'dark': dark, 'camera': values['camera'] == 'D', 'pair': dark & (values['camera'] == 'B')}[kind]


def planted(images, kind, plants, share=0.46, elsewhere=0.08):
    """Return how often the first slice found has most of the planted images, their number, and how many are found."""
    hits, sizes, numbers = 0, [], []
    for seed in range(plants):
        generator = np.random.default_rng([seed, 1])
        labels, attributes = simulate(images, seed)
        members = members_of(kind, attributes, generator)
        wrong = generator.random(images) < np.where(members, share, elsewhere)
        found = find_slices(attributes, dict(wrong=wrong), labels).found
        if found:
            common = np.isin(found[0].members, np.flatnonzero(members)).sum()
            hits += common > 0.5 * max(members.sum(), found[0].images)
        sizes.append(members.sum())
        numbers.append(len(found))
    return hits, np.mean(sizes), np.mean(numbers)


def main():
    """Print both tables."""
    args = parse_args()
    print('| images | errors | ' + ' | '.join(f'rate {rate:g}' for rate in args.rates) + ' | s a search |')
    for images in args.images:
        for errors in (1, 3, images // 10, images // 2, images):
            began = time.monotonic()
            counts = [shuffled(images, errors, rate, args.shuffles) for rate in args.rates]
            seconds = (time.monotonic() - began) / args.shuffles / len(args.rates)
            print(f'| {images} | {errors} | ' + ' | '.join(map(str, counts)) + f' | {seconds:.2f} |', flush=True)
    bounds = [int(binom.ppf(0.99, args.shuffles, rate)) for rate in args.rates]
    print(f'| bound (99 %) of {args.shuffles} | | ' + ' | '.join(map(str, bounds)) + ' | |')
    print('\n| planted (46 % wrong, elsewhere 8 %) | of images | images in it | first in the list | slices found |')
    for images in args.images:
        for kind in PLANTED if images >= 100 else PLANTED[:2]:  # there are no clusters, and no pairs that suffice
            hits, size, number = planted(images, kind, args.plants)
            print(f'| {kind} | {images} | {size:.0f} | {hits} of {args.plants} | {number:.1f} |', flush=True)


if __name__ == '__main__':
    main()
