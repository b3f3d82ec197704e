"""Findings about other keys of a config: unread keys, weights, workers, views, values out of range."""

from collections.abc import Iterator
from math import exp, log

from hybridcls.checks import counted, is_or_are
from hybridcls.engine.config.change import provenance_of
from hybridcls.engine.config.taker import UNREAD
from hybridcls.engine.config.takers import takers_of
from hybridcls.engine.config.timm_streams import timm_streams_in
from hybridcls.engine.config.tree import (
    dataloaders_in,
    dotted,
    holds_datasets,
    is_a,
    transforms_in,
    value_at,
    walk,
)  # fmt: skip

from ..build_reads import record_reads
from .environment import cpu_count
from .finding import NOTE, PROBLEM, WARNING, Finding, named, of_error
from .subject import Subject

__all__ = ['check_keys', 'check_settings']

_DROP_RATES = ('drop_rate', 'drop_path_rate', 'attn_drop_rate', 'proj_drop_rate', 'dropout', 'lora_dropout')
_MOST_DROPPED = 0.8
_LEAST_CROP = 0.05  # of the area
_LARGE_MARGIN = 1.0  # radians, or cosine
_LARGE_SCALE = 256


def check_keys(subject: Subject) -> Iterator[Finding]:
    """Find keys that nothing reads; parts are built on the meta device to see which function reads a ``**kwargs``."""
    takers = takers_of(subject.cfg)
    failed = dict(record_reads(subject.cfg, takers))
    if ('model',) in failed:
        failed.pop(('optim_wrapper',), None)  # for it is built for that model
    for path, error in failed.items():
        if not holds_datasets(str(path[-1])):  # these are told when they read their images
            yield of_error(error, dotted(path), subject.cfg)
    for path, taker in takers.found.items():
        if taker.status == UNREAD:
            yield Finding(
                WARNING,
                dotted(path),
                f'nothing reads this key: {taker.name.rstrip(".")}.',
                f'{dotted(path)}: take it out',
            )
    for name in provenance_of(subject.cfg).unread:
        yield Finding(WARNING, name, 'nothing reads this key of the top level.', f'{name}: take it out')


def check_settings(subject: Subject) -> Iterator[Finding]:
    """Report settings that are valid but do not have the effect they seem to have."""
    yield from _start(subject)
    yield from _loaders(subject)
    yield from _head(subject)
    yield from _model(subject)
    yield from _crops(subject)
    yield from _preprocessor(subject)


def _start(subject: Subject) -> Iterator[Finding]:
    start, resume = subject.get('load_from'), subject.get('resume')
    if start and resume:
        yield Finding(
            WARNING, 'resume', f'resume=True continues the epochs and the optimizer of load_from={start!r}; it does '
            'not start a new training from its weights.', 'resume=False, or --resume CHECKPOINT instead of both',
        )  # fmt: skip
    if start and any(isinstance(node, dict) and (node.get('pretrained') is True or node.get('checkpoint_path'))
                     for _, node in walk(subject.get('model'))):  # fmt: skip
        yield Finding(NOTE, 'load_from', 'the weights of load_from replace those that the streams load first.')


def _loaders(subject: Subject) -> Iterator[Finding]:
    cpus = cpu_count()
    for path, loader in dataloaders_in(subject.cfg):
        workers = loader.get('num_workers')
        if len(path) == 1 and isinstance(workers, int) and workers > cpus:
            where = dotted((*path, 'num_workers'))
            written = subject.is_written((*path, 'num_workers'))
            yield Finding(
                WARNING if written else NOTE,
                where,
                f'{counted(workers, "worker")} on {counted(cpus, "processor")}.',
                f'{where}={max(1, cpus - 1)}',
            )
    batch, train = subject.get('train_dataloader.batch_size'), subject.parts.get('train')
    if isinstance(batch, int) and train is not None and 0 < len(train.labels) < batch:
        where = 'train_dataloader.batch_size'
        yield Finding(
            WARNING if subject.is_written(('train_dataloader', 'batch_size')) else NOTE,
            where,
            f'a batch of {batch}, and of the training images there {is_or_are(len(train.labels))} '
            f'{len(train.labels):,}: each epoch is one smaller batch.',
            f'batch_size={max(1, len(train.labels) // 4)}',
        )
    sampler = subject.get('train_dataloader.sampler', {})
    if sampler.get('shuffle') is False:
        where = 'train_dataloader.sampler.shuffle'
        yield Finding(PROBLEM, where, 'the training images come in the order of their classes.', f'{where}=True')
    for split in ('val', 'test'):
        if subject.get(f'{split}_dataloader.drop_last'):
            where = f'{split}_dataloader.drop_last'
            yield Finding(
                PROBLEM, where, f'images of an incomplete batch are left out of the {split} result.', f'{where}=False'
            )
        if subject.get(f'{split}_dataloader.sampler.shuffle') is True:
            where = f'{split}_dataloader.sampler.shuffle'
            yield Finding(
                NOTE, where, f'the {split} images are shuffled, which has no effect on the result.', f'{where}=False'
            )
    indices = subject.get('train_dataloader.dataset.indices')
    if indices is not None and train is not None:
        what = f'only {counted(len(train.labels), "image")} {is_or_are(len(train.labels))} trained on, as indices says.'
        yield Finding(NOTE, 'train_dataloader.dataset.indices', what, 'take it out')
    if subject.get('train_dataloader.dataset.test_mode') is True:
        where = 'train_dataloader.dataset.test_mode'
        yield Finding(WARNING, where, 'the training data are read in test mode.', f'{where}=False')


def _head(subject: Subject) -> Iterator[Finding]:
    from hybridcls.models.heads.margin_head import MarginHead

    head = subject.get('model.head', {})
    temperature = subject.get('model.head.loss.temperature')
    if isinstance(temperature, (int, float)) and not 0.01 <= temperature <= 1:
        where = 'model.head.loss.temperature'
        yield Finding(WARNING, where, f'temperature={temperature:g} (0.05 to 0.2 is common).', f'{where}=0.1')
    smoothing = head.get('label_smoothing')
    if isinstance(smoothing, (int, float)) and smoothing >= 0.5:
        where = 'model.head.label_smoothing'
        yield Finding(WARNING, where, f'label_smoothing={smoothing:g} leaves little of the label.', f'{where}=0.1')
    scale, number = head.get('scale'), head.get('num_classes')
    margin = head.get('margin')
    if is_a('MODELS', head, MarginHead) and isinstance(margin, (int, float)) and margin >= _LARGE_MARGIN:
        where = 'model.head.margin'
        yield Finding(
            WARNING,
            where,
            f'margin={margin:g} is more than any image may reach (0.3 to 0.5 is common).',
            f'{where}=0.3',
        )
    if is_a('MODELS', head, MarginHead) and isinstance(scale, (int, float)) and scale > _LARGE_SCALE:
        where = 'model.head.scale'
        yield Finding(
            WARNING, where, f'scale={scale:g} (30 to 64 is common): the loss jumps at each error.', f'{where}=64'
        )
    if is_a('MODELS', head, MarginHead) and isinstance(scale, (int, float)) and isinstance(number, int) and number > 1:
        # CosFace, eq. 6: the scale at which the target class can have the probability p at all.
        reachable = 1 / (1 + (number - 1) * exp(-scale * number / (number - 1)))
        if reachable < 0.9:
            where = 'model.head.scale'
            least = (number - 1) / number * log((number - 1) * 0.99 / 0.01)
            yield Finding(
                WARNING, where, f'with scale={scale:g} no image of {number} classes can have a probability above '
                f'{reachable:.2f}.', f'{where}={max(16, round(2 * least))}',
            )  # fmt: skip


def _model(subject: Subject) -> Iterator[Finding]:
    for path, node in walk(subject.get('model'), ('model',)):
        for key in _DROP_RATES if isinstance(node, dict) else ():
            share = node.get(key)
            if isinstance(share, float) and share >= _MOST_DROPPED:
                where = dotted((*path, key))
                yield Finding(WARNING, where, f'{key}={share:g} leaves {1 - share:.0%}.', f'{where}=0.1')
        weights = node.get('class_weight') if isinstance(node, dict) else None
        weights = list(weights.values() if isinstance(weights, dict) else weights or ()) if not isinstance(
            weights, str) else []  # fmt: skip
        unseen = [number for number, weight in enumerate(weights) if weight == 0]
        if unseen:
            where = dotted((*path, 'class_weight'))
            yield Finding(
                WARNING, where, f'{counted(len(unseen), "class", "classes", of=len(weights))} with the weight 0: '
                f'{named(unseen)}. Its images are trained on, and change nothing.', f'{where}: a small weight, or take '
                'the images out',
            )  # fmt: skip


def _crops(subject: Subject) -> Iterator[Finding]:
    for split in ('train', 'val', 'test'):
        key = f'{split}_dataloader'
        for path, node in transforms_in({key: subject.get(key)}):
            shares = node.get('crop_ratio_range')
            if isinstance(shares, (list, tuple)) and shares and max(shares) < _LEAST_CROP:
                where = dotted((*path, 'crop_ratio_range'))
                yield Finding(
                    WARNING, where, f'crops have at most {max(shares):.2%} of an image.', f'{where}=(0.2, 1.0)'
                )


def _preprocessor(subject: Subject) -> Iterator[Finding]:
    for key in ('model.data_preprocessor', 'data_preprocessor'):
        mean, std = subject.get(f'{key}.mean'), subject.get(f'{key}.std')
        if mean and std and max(mean) <= 1 and any(mean):
            yield Finding(
                PROBLEM, f'{key}.mean', f'mean={list(mean)} is for images in [0, 1], but these are in [0, 255].',
                f'{key}: mean={[round(255 * one, 3) for one in mean]}, std={[round(255 * one, 3) for one in std]}',
            )  # fmt: skip
    for path in timm_streams_in(subject.cfg):
        mean = value_at(subject.cfg, path).get('mean')
        if mean and max(mean) > 1:
            where = dotted((*path, 'mean'))
            yield Finding(
                PROBLEM, where, f'mean={list(mean)} is for images in [0, 255], but a stream gets images in [0, 1].',
                f'{where}: leave it out, and std too, or divide both by 255',
            )  # fmt: skip
            continue
        std = value_at(subject.cfg, path).get('std')
        if std and max(std) > 1 and tuple(std) != (1.0,) * len(std):
            where = dotted((*path, 'std'))
            yield Finding(
                PROBLEM, where, f'std={list(std)} is that of images in [0, 255], and a stream gets them in [0, 1].',
                f'{where}: leave it out, or divide it by 255',
            )  # fmt: skip
