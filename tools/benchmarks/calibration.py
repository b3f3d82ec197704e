"""Calibration: how often guarantees hold over resampled halves of held-out images, and a naive threshold does.

    python tools/benchmark.py calibration CHECKPOINT --data FOLDER [FOLDER ...] [--risk 0.05 0.1] [--scale temperature]

The model runs once. Each resampling fits a calibration on a random half of the images and asks the other half: the
error among answered images (which varies by chance, too, and is bounded for all later images, not for one half), the
share that is answered, how many sets hold the right class. The naive threshold is the least one at which the error of
the first half is not above the risk.
"""

import argparse

import numpy as np
import torch

import hybridcls
from hybridcls.apis.calibration_fit import LabelledScores, fit_calibration, labelled_scores
from hybridcls.functional.calibration import SCALINGS, apply_scaling


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('checkpoint')
    parser.add_argument('--data', nargs='+', required=True, metavar='FOLDER', help='held-out images in class folders')
    parser.add_argument('--risk', nargs='+', type=float, default=[0.05, 0.1, 0.15])
    parser.add_argument('--confidence', type=float, default=0.95)
    parser.add_argument('--sets', type=float, default=0.1)
    parser.add_argument('--scale', nargs='+', choices=SCALINGS, default=['temperature'])
    parser.add_argument('--resamplings', type=int, default=100)
    return parser.parse_args()


def naive_threshold(top, wrong, risk):
    """Return the least threshold at which the error is not above the risk; infinity without one."""
    order = top.argsort(descending=True)
    errors = wrong[order].double().cumsum(0) / torch.arange(1, len(order) + 1)
    good = (errors <= risk).nonzero()
    return float(top[order[good[-1, 0]]]) if len(good) else float('inf')


def answer(scaling, given, threshold):
    """Return the error among answered images, NaN without any, and their share."""
    top, predicted = apply_scaling(scaling, given.scores).max(1)
    answered = top.double() >= threshold
    return (predicted != given.labels)[answered].double().mean().item(), answered.double().mean().item()


def resample(given, classes, scale, risk, args):
    """Return the errors, shares, errors of naive thresholds, and shares of right sets, of each resampling."""
    rows = []
    for seed in range(args.resamplings):
        order = torch.randperm(len(given.labels), generator=torch.Generator().manual_seed(seed))
        fits, asks = (
            LabelledScores(given.scores[part], given.labels[part]) for part in order.split((len(order) + 1) // 2)
        )
        found = fit_calibration(fits, classes, scale, risk, args.confidence, args.sets, seed, measure=False).calibration
        threshold = float('inf') if found.risk is None else found.risk['threshold']
        top, predicted = apply_scaling(found.scaling, fits.scores).max(1)
        naive = naive_threshold(top, predicted != fits.labels, risk)
        right = apply_scaling(found.scaling, asks.scores).gather(1, asks.labels.clamp_min(0).unsqueeze(1))
        holds = np.nan if found.sets is None else (right.double() >= found.sets['threshold']).double().mean().item()
        rows.append((*answer(found.scaling, asks, threshold), answer(found.scaling, asks, naive)[0], holds))
    return np.array(rows).T


def main():
    """Measure."""
    args = parse_args()
    model = hybridcls.load(args.checkpoint, 'cpu', calibration=False)
    parts = [labelled_scores(model, data) for data in args.data]
    given = LabelledScores(torch.cat([part.scores for part in parts]), torch.cat([part.labels for part in parts]))
    accuracy = (given.scores.argmax(1) == given.labels).double().mean()
    print(f'{len(given.labels)} images, accuracy {100 * accuracy:.1f} %; {args.resamplings} resamplings')
    print(f'{"scale":<12} risk   threshold found, exceeded  answered   naive exceeded   sets hold (1 - {args.sets:g})')
    for scale in args.scale:
        for risk in args.risk:
            errors, shares, naive, holds = resample(given, model.classes, scale, risk, args)
            print(
                f'{scale:<12} {risk:<6g} {(shares > 0).sum():>15} {(errors > risk).sum():>10} '
                f'{100 * shares.mean():>8.1f} % {(naive > risk).sum():>15} {100 * np.nanmean(holds):>15.1f} %'
            )


if __name__ == '__main__':
    main()
