"""Calibration: how often guarantees hold over resampled halves of held-out images, and a naive threshold does.

    python tools/benchmark.py calibration CHECKPOINT --data FOLDER [FOLDER ...] [--risk 0.05 0.1] [--scale temperature]
    python tools/benchmark.py calibration ARTIFACT --data ...  # onnxruntime scores, runtime.py decides

The model runs once. Each resampling fits a calibration on a random half of the images and asks the other half: the
error among answered images (which varies by chance, too, and is bounded for all later images, not for one half), the
share that is answered, how many sets hold the right class. The naive threshold is the least one at which the error of
the first half is not above the risk.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import hybridcls
from hybridcls.apis.artifact.reference import labels_of, outputs_of_images
from hybridcls.apis.artifact.shipped.runtime import Model
from hybridcls.apis.calibration_fit import LabelledScores, fit_calibration, labelled_scores
from hybridcls.apis.image_inputs import read_inputs
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


def answer(model, calibration, given):
    """Return the error among answered images, NaN without any, their share, and that of sets with the right class."""
    risk, sets = calibration.risk, calibration.sets
    if isinstance(model, Model):
        model.sidecar['calibration'] = calibration.to_json()
        answers = model.decide(dict(probabilities=given.scores.numpy()))
        names = [None if label < 0 else model.classes[label] for label in given.labels]
        answered = np.array([one.get('answered', False) for one in answers])
        wrong = np.array([one['class'] != name for one, name in zip(answers, names, strict=True)])
        held = [name in one.get('prediction_set', ()) for one, name in zip(answers, names, strict=True)]
    else:
        calibrated = apply_scaling(calibration.scaling, given.scores)
        top, predicted = calibrated.max(1)
        answered = (top.double() >= (np.inf if risk is None else risk['threshold'])).numpy()
        wrong = (predicted != given.labels).numpy()
        right = calibrated.gather(1, given.labels.clamp_min(0).unsqueeze(1)).squeeze(1).double().numpy()
        held = right >= (np.inf if sets is None else sets['threshold'])
    error = wrong[answered].mean() if answered.any() else np.nan
    return error, answered.mean(), np.nan if sets is None else np.mean(held)


def resample(model, given, scale, risk, args):
    """Return the errors, shares, shares of right sets, and errors of naive thresholds, of each resampling."""
    rows = []
    for seed in range(args.resamplings):
        order = torch.randperm(len(given.labels), generator=torch.Generator().manual_seed(seed))
        fits, asks = (
            LabelledScores(given.scores[part], given.labels[part]) for part in order.split((len(order) + 1) // 2)
        )
        found = fit_calibration(
            fits, model.classes, scale, risk, args.confidence, args.sets, seed, measure=False
        ).calibration
        top, predicted = apply_scaling(found.scaling, fits.scores).max(1)
        naive = replace(found, risk=dict(threshold=naive_threshold(top, predicted != fits.labels, risk)))
        rows.append((*answer(model, found, asks), answer(model, naive, asks)[0]))
    return np.array(rows).T


def opened(args):
    """Return the model and its scores of all images."""
    if (Path(args.checkpoint) / 'model.json').is_file():
        model = Model(args.checkpoint)
        items = [item for data in args.data for item in read_inputs(data, 'calibration').items]
        outputs, kept = outputs_of_images(model, items, [])
        labels = labels_of(kept, model.sidecar)
        return model, LabelledScores(torch.from_numpy(outputs['probabilities']), torch.tensor(labels))
    model = hybridcls.load(args.checkpoint, 'cpu', calibration=False)
    parts = [labelled_scores(model, data) for data in args.data]
    return model, LabelledScores(torch.cat([one.scores for one in parts]), torch.cat([one.labels for one in parts]))


def main():
    """Measure."""
    args = parse_args()
    model, given = opened(args)
    accuracy = (given.scores.argmax(1) == given.labels).double().mean()
    print(f'{len(given.labels)} images, accuracy {100 * accuracy:.1f} %; {args.resamplings} resamplings')
    print(f'{"scale":<12} risk   threshold found, exceeded  answered   naive exceeded   sets hold (1 - {args.sets:g})')
    for scale in args.scale:
        for risk in args.risk:
            errors, shares, holds, naive = resample(model, given, scale, risk, args)
            print(
                f'{scale:<12} {risk:<6g} {(shares > 0).sum():>15} {(errors > risk).sum():>10} '
                f'{100 * shares.mean():>8.1f} % {(naive > risk).sum():>15} {100 * np.nanmean(holds):>15.1f} %'
            )


if __name__ == '__main__':
    main()
