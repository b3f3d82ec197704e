"""Audit: wrong labels are planted in a folder of images, and looked for, beside cleanlab on the same training.

    python tools/benchmark.py audit [--data FOLDER] [--model NAME --checkpoint FILE] [--kinds uniform pair]
        [--rates 0 0.05 0.1 0.2] [--copies 0] [--seeds 0] [--epochs 8] [--img-size 48] [--out FOLDER] [--again]

FOLDER has class folders, or train/, val/ and test/ of such; without one it is the digits of scikit-learn. Of the images
that are not for the test, validation included, a share gets another label: ``uniform`` any other, ``pair`` that of the
next class; ``one``: a share of one class that of one other. Of --copies a share of all these images is there twice,
with the same label. Each cell trains `finetune/full` once with --record, and says: average precision; precision at as
many images as are wrong; and precision and recall of what is listed without a hint. cleanlab (``pip install
cleanlab``) gets the probabilities of the model that was trained ("final"), and those of the audit's cross-validated
logistic regression on its embeddings, which are out of sample ("cross-validated"): `find_label_issues`, ranked by
normalized margins.

``--again`` trains with what the audit lists dropped, with it relabelled as suggested, and tests all three on the clean
test split: same seed, same split.
"""

import argparse
import csv
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

from hybridcls.apis.audit.audited_images import training_images
from hybridcls.apis.audit.cross_validated_scores import cross_validated_scores
from hybridcls.apis.audit.duplicate_groups import find_duplicates
from hybridcls.apis.audit.label_neighbours import neighbour_votes
from hybridcls.apis.audit.label_suspects import find_suspects
from hybridcls.apis.inferencer import HybridInferencer
from hybridcls.apis.report.evaluated_images import evaluate_images
from hybridcls.datasets.class_folders import folders_in
from hybridcls.datasets.image_files import files_below
from hybridcls.datasets.image_formats import readable_extensions
from hybridcls.datasets.split_names import split_folders


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--data')
    parser.add_argument('--model', default='tf_efficientnet_lite0')
    parser.add_argument('--checkpoint')
    parser.add_argument('--kinds', nargs='+', default=['uniform', 'pair'], choices=['uniform', 'pair', 'one'])
    parser.add_argument('--rates', nargs='+', type=float, default=[0.0, 0.05, 0.1, 0.2])
    parser.add_argument('--copies', type=float, default=0.0)
    parser.add_argument('--seeds', nargs='+', type=int, default=[0])
    parser.add_argument('--epochs', type=int, default=8)
    parser.add_argument('--img-size', type=int, default=48)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--out', default='work_dirs/audit_benchmark')
    parser.add_argument('--again', action='store_true')
    return parser.parse_args()


def digits(folder):
    """Write the digits as class folders."""
    for row, (image, label) in enumerate(zip(*load_digits(return_X_y=True), strict=True)):
        path = folder / str(label) / f'{row:04d}.png'
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image.reshape(8, 8) * 255 / 16).astype('uint8')).save(path)
    return folder


def list_images(folder):
    """Return (path, class, split) of all images; class folders alone are divided 7 : 1 : 2."""
    splits = split_folders(folders_in(str(folder)))
    rows = []
    for split, name in (splits or {'': ''}).items():
        for path in sorted(files_below(str(folder / name), readable_extensions())[0]):
            rows.append([str((folder / name / path).resolve()), Path(path).parts[0], split])
    if not splits:
        order = np.random.default_rng(0).permutation(len(rows))
        for place, row in enumerate(order):
            share = place / len(rows)
            rows[row][2] = 'test' if share < 0.2 else 'val' if share < 0.3 else 'train'
    return rows


def planted(rows, kind, rate, seed):
    """Return the labels, with wrong ones among those that are not for the test."""
    rng, names = np.random.default_rng(seed), sorted({row[1] for row in rows})
    labels = [row[1] for row in rows]
    open_rows = [place for place, row in enumerate(rows) if row[2] != 'test']
    if kind == 'one':
        first, other = rng.choice(len(names), 2, replace=False)
        open_rows = [place for place in open_rows if labels[place] == names[first]]
        for place in rng.choice(open_rows, round(rate * len(open_rows)), replace=False):
            labels[place] = names[other]
        return labels
    for place in rng.choice(open_rows, round(rate * len(open_rows)), replace=False):
        step = 1 if kind == 'pair' else rng.integers(1, len(names))
        labels[place] = names[(names.index(labels[place]) + step) % len(names)]
    return labels


def copied(rows, labels, share, seed, folder):
    """Return rows and labels with copies of a share of the images that are not for the test."""
    open_rows = [place for place, row in enumerate(rows) if row[2] != 'test']
    chosen = np.random.default_rng(seed).choice(open_rows, round(share * len(open_rows)), replace=False)
    more = []
    for place in chosen:
        path, label, split = rows[place]
        target = folder / f'{place}_{Path(path).name}'
        shutil.copy(path, target)
        more.append([str(target), label, split])
    return [*rows, *more], [*labels, *(labels[place] for place in chosen)]


def command(*arguments):
    """Run `hybridcls`, and return what --json says."""
    done = subprocess.run([sys.executable, '-m', 'hybridcls', *map(str, arguments), '--json'], capture_output=True)
    if done.returncode:
        raise RuntimeError(done.stderr.decode()[-2000:])
    return json.loads(done.stdout)


def train(args, table, seed, folder, *more):
    """Train, unless that is done, and return the accuracy on the test split."""
    result = folder / 'result.json'
    if not result.is_file():
        start = ['--checkpoint', args.checkpoint] if args.checkpoint else []
        command('train', 'finetune/full', '--data', table, '--model', args.model, *start, '--epochs', args.epochs,
                '--img-size', args.img_size, '--seed', seed, '--device', args.device, '--work-dir', folder, '--record',
                '--force', *more)  # fmt: skip
        result.write_text(json.dumps(command('test', folder, '--device', args.device, '--work-dir', folder / 'test')))
    return json.loads(result.read_text())['metrics']['accuracy/top1']


def line(name, wrong, score, listed):
    """Return a row of the table: how well a ranking and a list find what is wrong."""
    cells = ['-', '-', '-', '-']
    if wrong.any():
        top = np.argsort(-score, kind='stable')[: wrong.sum()]
        recall = 100 * listed[wrong].mean()
        cells = [f'{average_precision_score(wrong, score):.3f}', f'{100 * wrong[top].mean():.1f}', '-', f'{recall:.1f}']
        if listed.any():
            cells[2] = f'{100 * wrong[listed].mean():.1f}'
    return f'| {name} | {" | ".join(cells[:2])} | {listed.sum()} of {wrong.sum()} | {" | ".join(cells[2:])} |'


def look(folder, true):
    """Audit a training; return its suspects, whether they are wrong, and the lines of the table."""
    model = HybridInferencer(folder, 'cpu')
    images = training_images(model)
    seen = evaluate_images(model, images.items)
    count, labels = len(images.classes), images.labels
    wrong = np.array(
        [true[item.path] != images.classes[label] for item, label in zip(images.items, labels, strict=True)]
    )
    groups = find_duplicates([item.path for item in images.items], labels).group_numbers(len(labels))
    scores = dict(
        cross_validated=cross_validated_scores(seen.embeddings, labels, count, groups),
        neighbours=neighbour_votes(seen.embeddings, labels, count, groups=groups),
    )
    lines = []
    for name, record in (('audit', images.record), ('audit, no record', None)):
        suspects = find_suspects(labels, count, scores, record, seen.scores)
        listed = np.zeros(len(labels), bool)
        listed[suspects.order[: suspects.listed]] = True
        lines.append(line(name, wrong, -np.argsort(suspects.order), listed))
        if record is not None:
            chosen = suspects
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        return images, chosen, [*lines, '| (cleanlab is not installed) | | | | | |']
    for name, values in (('final', seen.scores), ('cross-validated', scores['cross_validated'])):
        found = find_label_issues(labels, values, n_jobs=1)
        score = -get_label_quality_scores(labels, values, method='normalized_margin')
        lines.append(line(f'cleanlab, {name}', wrong, score, found))
    return images, chosen, lines


def decide(images, suspects, decision, path):
    """Write the decisions on what is listed."""
    with open(path, 'w', newline='', encoding='utf8') as file:
        writer = csv.writer(file)
        writer.writerow(['path', 'label', 'suggested', 'decision'])
        for row in suspects.order[: suspects.listed]:
            names = [images.classes[number] for number in (images.labels[row], suspects.suggested[row])]
            writer.writerow([images.items[row].path, *names, decision])
    return path


def main():
    """Print a table for each kind and rate."""
    args = parse_args()
    out = Path(args.out).resolve()
    rows = list_images(Path(args.data) if args.data else digits(out / 'digits'))
    for kind, rate in [(kind, rate) for kind in args.kinds for rate in args.rates]:
        if rate == 0 and kind != args.kinds[0]:
            continue
        accuracies = {}
        for seed in args.seeds:
            folder = out / f'{kind}_{rate:g}_{seed}{f"_{args.copies:g}" if args.copies else ""}'
            folder.mkdir(parents=True, exist_ok=True)
            table = folder / 'labels.csv'
            every, labels = copied(rows, planted(rows, kind, rate, seed), args.copies, seed, folder)
            true = {path: label for path, label, _ in every}
            with open(table, 'w', newline='', encoding='utf8') as file:
                writer = csv.writer(file)
                writer.writerow(['path', 'label', 'split'])
                for (path, _, split), label in zip(every, labels, strict=True):
                    writer.writerow([path, label, split])
            before = train(args, table, seed, folder / 'run')
            images, suspects, lines = look(folder / 'run', true)
            print(f'\n{kind}, {100 * rate:g} % wrong, seed {seed}; test {before:.2f} %\n')
            print('| | AP | precision at as many, % | listed | precision, % | recall, % |\n|---|---|---|---|---|---|')
            print('\n'.join(lines), flush=True)
            if args.again and suspects.listed:
                accuracies.setdefault('before', []).append(before)
                for decision in ('drop', 'relabel'):
                    file = decide(images, suspects, decision, folder / f'{decision}.csv')
                    after = train(args, table, seed, folder / decision, f'--{decision}', file)
                    accuracies.setdefault(decision, []).append(after)
        for decision in accuracies.keys() - {'before'}:
            gains = [b - a for a, b in zip(accuracies['before'], accuracies[decision], strict=True)]
            spread = f' ± {statistics.stdev(gains):.2f}' if len(gains) > 1 else ''
            print(f'{decision}: {statistics.mean(gains):+.2f}{spread} points of test accuracy over {len(gains)} seeds')


if __name__ == '__main__':
    main()
