"""Rejection of unknown digits: epistemic uncertainty against the maximum softmax of a cross-entropy head.

    python tools/benchmark.py rejection [--seeds 5] [--epochs 15] [--members 3] [--only ce evidential]

For each seed, two different digits are unknown. A small ResNet is trained on the other eight; it is then tested on
their test images and on all images of the two. Everything runs through configs and the Runner.
AUROC, FPR95 (unknown against known), AURC, accuracy and ECE (of the known ones) are in percent; mean and standard
deviation over the seeds.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from mmengine.config import Config

from hybridcls.engine import TrainOptions, build_runner, prepare_testing, prepare_training
from hybridcls.engine.runner.global_instances import isolated_globals

ALL_SCORES = ('least_confidence', 'entropy', 'aleatoric', 'epistemic', 'total', 'vacuity')
SCORES_OF_ANY, SCORES_OF_MIXTURES = ALL_SCORES[:2], ALL_SCORES[:5]


def evidential(**loss):
    """Return the head of an evidential classifier."""
    return dict(head=dict(type='EvidentialHead', loss=dict(annealing=5, **loss)))


def methods(members):
    """Return the methods by name: keys of the model, and its scores."""
    return {
        'ce': (dict(head=dict(type='LinearHead')), SCORES_OF_ANY),
        'mc_dropout': (dict(type='MCDropoutClassifier', dropout=0.3, head=dict(type='LinearHead')), SCORES_OF_MIXTURES),
        'ensemble': (
            dict(type='EnsembleClassifier', head=dict(type='LinearHead'), members=members),
            SCORES_OF_MIXTURES,
        ),
        'evidential': (evidential(), ALL_SCORES),
        'evidential_squares': (evidential(form='sum_of_squares'), ALL_SCORES),
        'evidential_softplus': (evidential(evidence='softplus'), ALL_SCORES),
    }


def config(seed, epochs, keys, scores, work_dir):
    """Return the config of one run."""
    unknown = [(2 * seed) % 10, (2 * seed + 1) % 10]
    known = [digit for digit in range(10) if digit not in unknown]
    resize, pack = dict(type='ResizeToSize', img_size=16), dict(type='PackInputs')
    augment = dict(type='RandomAffine', degrees=12, translate=0.08, scale=(0.9, 1.1), shear=8)
    tested = [dict(type='Digits', split='test', digits=known, pipeline=[resize, pack])]
    tested += [
        dict(type='Digits', split=split, digits=unknown, pipeline=[resize, dict(type='MarkUnknown'), pack])
        for split in ('train+val', 'test')
    ]
    model = dict(
        type='HybridClassifier',
        backbone=dict(type='ResNet_CIFAR', depth=18, stem_channels=8, base_channels=8),
        neck=dict(type='GlobalAveragePooling'),
    )
    model.update(keys)
    model['head'] = dict(num_classes=8, in_channels=64, **model['head'])
    return Config(
        dict(
            default_scope='hybridcls',
            model=model,
            work_dir=str(work_dir),
            log_level='WARNING',
            randomness=dict(seed=seed + 100 * int(str(work_dir)[-1])),
            train_dataloader=dict(
                batch_size=64,
                num_workers=0,
                drop_last=True,
                sampler=dict(type='DefaultSampler', shuffle=True),
                dataset=dict(type='Digits', split='train+val', digits=known, pipeline=[resize, augment, pack]),
            ),
            test_dataloader=dict(
                batch_size=256,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(type='ConcatDataset', datasets=tested),
            ),
            test_evaluator=[
                dict(type='HeadMetric', known_only=True, metric=dict(type='Accuracy')),
                dict(type='OODMetric', scores=scores),
                dict(type='CalibrationMetric'),
                dict(type='SelectiveMetric', scores=scores),
            ],
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            test_cfg=dict(),
            optim_wrapper=dict(type='ComposedOptimWrapper', optimizer=dict(type='AdamW', lr=5e-3, weight_decay=0.05)),
            param_scheduler=[
                dict(type='OneCycleLR', eta_max=5e-3, by_epoch=True, convert_to_iter_based=True, total_steps=epochs)
            ],
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=epochs, save_optimizer=False)),
        )
    )


def run(seed, epochs, keys, scores, work_dir, train=True):
    """Train and test; return the metrics."""
    cfg = config(seed, epochs, keys, scores, work_dir)
    with isolated_globals():
        if train:
            runner = build_runner(prepare_training(cfg, TrainOptions()))
            runner.train()
        else:
            runner = build_runner(prepare_testing(cfg, None, TrainOptions()))
        return runner.test()


def table(results):
    """Format mean and standard deviation over the seeds, one row for each method and score."""
    lines = [f'{"method":<20} {"score":<12} {"AUROC":>13} {"FPR95":>13} {"AURC":>13}   accuracy, ECE, NLL']

    def cell(runs, name):
        values = [run[name] for run in runs]
        return f'{statistics.mean(values):6.2f} ±{statistics.pstdev(values):5.2f}'

    for method, runs in results.items():
        for score in [name.removeprefix('ood/auroc_') for name in runs[0] if name.startswith('ood/auroc_')]:
            line = f'{method:<20} {score:<12} {cell(runs, f"ood/auroc_{score}")} {cell(runs, f"ood/fpr95_{score}")} '
            line += cell(runs, f'selective/aurc_{score}')
            if score == 'least_confidence':
                line += '   ' + ', '.join(
                    cell(runs, name) for name in ('accuracy/top1', 'calibration/ece', 'calibration/nll')
                )
            lines.append(line)
    return '\n'.join(lines)


def main():
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, default=5)
    parser.add_argument('--epochs', type=int, default=15)
    parser.add_argument('--members', type=int, default=3, help='of the ensemble')
    parser.add_argument('--only', nargs='+', choices=list(methods([])), default=list(methods([])))
    args = parser.parse_args()
    results = {name: [] for name in args.only}
    began = time.time()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.seeds):
            checkpoints = [f'{folder}/{seed}/ce_{number}/epoch_{args.epochs}.pth' for number in range(args.members)]
            for name in args.only:
                keys, scores = methods(checkpoints)[name]
                if name == 'ensemble':
                    for checkpoint in checkpoints:
                        if not Path(checkpoint).exists():
                            run(seed, args.epochs, *methods([])['ce'], Path(checkpoint).parent, train=True)
                place = Path(f'{folder}/{seed}/{name}_0')
                results[name].append(run(seed, args.epochs, keys, scores, place, train=name != 'ensemble'))
            print(f'{seed + 1} seeds, {time.time() - began:.0f} s\n{table(results)}\n', flush=True)


if __name__ == '__main__':
    main()
