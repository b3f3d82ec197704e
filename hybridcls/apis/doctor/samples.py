"""Findings about the output of a pipeline: format, size, randomness in a test, views, colours."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from traceback import walk_tb
from typing import Any, Optional

import numpy as np
import torch
from mmpretrain.models import BaseClassifier
from PIL import Image
from torch import Tensor

from hybridcls.checks import counted
from hybridcls.datasets.dataset_nodes import leaves_of
from hybridcls.datasets.dataset_parts import loaders_of
from hybridcls.engine.config.tree import is_a
from hybridcls.replay.random_state import isolated_randomness, seed_generators
from hybridcls.signatures import takes_argument

from .data_parts import DataPart
from .finding import PROBLEM, WARNING, Finding, named, of_error
from .subject import Subject

__all__ = ['check_batches_of_labels', 'check_colors', 'check_samples', 'views_of']

_TRIED = 8  # images of a split
_FEWEST = 4  # views, to say what colours they have
_FLAT = 0.5  # standard deviation, in grey levels of 256
_ADVICE = {
    True: "dict(type='LoadImage') at the start of the pipeline",
    False: "dict(type='PackInputs') at the end of the pipeline",
}
_CHANCE = ('Rand', 'Jitter', 'Erasing', 'Cutout', 'Mix', 'Flip', 'AutoAugment', 'AugMix')
_BATCHES = 20
_WITH_POSITIVE = 0.5


def check_samples(subject: Subject) -> Iterator[Finding]:
    """Run the pipelines on some images, and check their output."""
    sizes, colors = {}, {}
    for split, part in subject.parts.items():
        if not part.has_pipeline:
            continue
        samples, finding = _samples(subject, part)
        if finding is not None:
            yield finding
        if not samples:
            continue
        wrong = _not_packed(samples[0])
        if wrong and not is_a('MODELS', subject.get('model'), BaseClassifier):
            continue  # whose samples have a form of their own
        if wrong:
            yield Finding(
                PROBLEM,
                f'{part.key}.pipeline',
                wrong,
                _ADVICE[isinstance(samples[0], dict) and 'data_samples' in samples[0]],
            )
            continue
        views = [views_of(sample['inputs']) for sample in samples]
        yield from _emptied(subject, part, samples, views)
        colors[split] = _colors(subject, part, [view for own in views for view in own])
        shapes = {tuple(view.shape[-2:]) for own in views for view in own}
        if len(shapes) > 1:
            yield Finding(
                PROBLEM, f'{part.key}.pipeline',
                f'images leave the pipeline in {counted(len(shapes), "size")} '
                f'({named(" x ".join(map(str, one)) for one in sorted(shapes))}), so they cannot be stacked into a '
                'batch.',
                "dict(type='ResizeToSize') or dict(type='CenterCropToSize') before PackInputs",
            )  # fmt: skip
        else:
            sizes[split] = next(iter(shapes))
        if split == 'train':
            yield from _views(subject, views)
        elif part.dataset is not getattr(subject.parts.get('train'), 'dataset', None):
            yield from _chance(part, subject)
    for split in ('val', 'test'):
        if colors.get(split) and colors.get('train') and colors[split] != colors['train']:
            yield Finding(
                WARNING, f'{split}_dataloader.dataset.pipeline',
                f'training images leave the pipeline {colors["train"]}, those of {split} {colors[split]}.',
                'LoadImage.color_type, and the transforms of colours, alike in all pipelines',
            )  # fmt: skip
        if 'train' in sizes and sizes.get(split, sizes['train']) != sizes['train']:
            yield Finding(
                WARNING, f'{split}_dataloader.dataset.pipeline',
                f'training images have {sizes["train"][0]} x {sizes["train"][1]} pixels, those of {split} '
                f'{sizes[split][0]} x {sizes[split][1]}.',
                'img_size at the top level, which reaches all pipelines',
            )  # fmt: skip


def views_of(inputs: Any) -> list[Tensor]:
    """Return the views of an image, a single one for pipelines without views."""
    return list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]


def _colors(subject: Subject, part: DataPart, views: list[Tensor]) -> str:
    """Say what is left of the colours, or ``''`` where these images have none, or are too few to tell."""
    channels = {view.shape[-3] if view.dim() >= 3 else 1 for view in views}
    if channels != {3}:
        return f'with channels: {named(sorted(channels))}'
    looks = [] if subject.scan is None else subject.scan.of(part)
    if len(views) < _FEWEST or not any(look.is_colored for *_, look in looks):
        return ''
    return 'grey' if all(bool((view == view[..., :1, :, :]).all()) for view in views) else 'in colour'


def _emptied(subject: Subject, part: DataPart, samples: list[Any], views: list[list[Tensor]]) -> Iterator[Finding]:
    """Whether images leave the pipeline as one colour that are not in their files."""
    looks = {} if subject.scan is None else {path: look for path, _, look in subject.scan.of(part)}
    flat = 0
    for sample, own in zip(samples, views, strict=True):
        path = getattr(sample['data_samples'], 'img_path', None)
        if path in looks and not looks[path].is_flat:
            flat += all(float(view.float().flatten(-2).std(-1).max()) < _FLAT for view in own if view.numel() > 3)
    if flat > len(samples) / 2:
        yield Finding(
            PROBLEM, f'{part.key}.pipeline',
            f'{counted(flat, "image", of=len(samples))} of {part.split} leave the pipeline as one '
            'colour, and are not so in their files.',
            f'{part.key}.pipeline: crops, brightness or erasing that leave something to see',
        )  # fmt: skip


def _samples(subject: Subject, part: DataPart) -> tuple[list[Any], Optional[Finding]]:
    """Run the pipeline on some readable images; return its outputs, and the first error."""
    count = len(part.dataset) if hasattr(part.dataset, '__len__') else 0
    numbers = [number * count // _TRIED for number in range(min(count, _TRIED))]
    looks = {} if subject.scan is None else subject.scan.looks
    if part.paths and len(part.paths) == count:
        good = [
            number for number in range(count) if part.paths[number] in looks and not looks[part.paths[number]].problem
        ]
        numbers = [good[number * len(good) // _TRIED] for number in range(min(len(good), _TRIED))]
    samples: list[Any] = []
    for number in dict.fromkeys(numbers):
        try:
            samples.append(part.dataset[number])
        except Exception as error:  # transforms of any package may raise any error
            from hybridcls.datasets.transforms.load_image import UnreadableImageError

            if isinstance(error, UnreadableImageError):  # told by the look at all images
                continue
            found = of_error(error, f'{part.key}.pipeline', subject.cfg)
            step = _step_of(error, part)
            return [], replace(found, what=f'{step}: {found.what}') if step and step not in found.what else found
    return samples, None


def _step_of(error: Exception, part: DataPart) -> str:
    """Return the name of the innermost transform that raised an error, or ``''``."""
    pipelines = (getattr(leaf, 'pipeline', None) for leaf in leaves_of(part.dataset))
    steps = {id(step) for pipeline in pipelines for step in getattr(pipeline, 'transforms', ())}
    callers = (frame.f_locals.get('self') for frame, _ in walk_tb(error.__traceback__))
    return next((type(one).__name__ for one in callers if id(one) in steps), '')


def _not_packed(sample: Any) -> str:
    if isinstance(sample, dict) and 'inputs' in sample and 'data_samples' in sample:
        tensors = views_of(sample['inputs'])
        return '' if all(isinstance(one, Tensor) for one in tensors) else 'the inputs of a sample are no tensors.'
    got = f'a dict with {", ".join(map(str, sample))}' if isinstance(sample, dict) else f'a {type(sample).__name__}'
    return f'the pipeline gives {got}, not inputs and data_samples.'


def _chance(part: DataPart, subject: Subject) -> Iterator[Finding]:
    """Report whether a test image gives different results when the pipeline runs twice."""
    for number in range(min(4, len(part.dataset))):
        seen: list[list[Tensor]] = []
        for seed in range(4 * number, 4 * number + 4):
            with isolated_randomness(), suppress(Exception):
                seed_generators(seed, seed)
                seen.append(views_of(part.dataset[number]['inputs']))
        if not all(_equal(seen[0], other) for other in seen[1:]):
            pipeline = getattr(next(iter(leaves_of(part.dataset))), 'pipeline', None)
            names = [type(step).__name__ for step in getattr(pipeline, 'transforms', ())]
            names = [name for name in names if any(part in name for part in _CHANCE)]
            yield Finding(
                PROBLEM, f'{part.key}.pipeline',
                f'the {part.split} images are changed at random{f" ({named(names)})" if names else ""}, so that '
                'results differ from one validation to the next.',
                f'{part.key}.pipeline: take {named(names) if names else "the random transforms"} out',
            )  # fmt: skip
            return


def _equal(views: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(views, others, strict=True))


def _views(subject: Subject, views: list[list[Tensor]]) -> Iterator[Finding]:
    from hybridcls.models.heads import SupConHead

    head, count = subject.get('model.head', {}), len(views[0])
    same = count > 1 and all(_equal(own[:1], [other]) for own in views for other in own[1:])
    if is_a('MODELS', head, SupConHead) and same and not subject.get('model.data_preprocessor.device_augment'):
        yield Finding(
            PROBLEM, 'train_dataloader.dataset.pipeline', f'the {count} views of an image are equal: they attract each '
            'other from the start, and nothing is learned from them.',
            'ImageViews.transforms: random crops, flips and colours, of each view its own',
        )  # fmt: skip
    if is_a('MODELS', head, SupConHead) and count < 2 and not subject.get('model.data_preprocessor.device_augment'):
        alone = head.get('use_labels') is False
        what = 'one view of each image'
        what += ', and use_labels=False: nothing attracts, and the loss is 0.' if alone else (
            ': only other images of its class attract it (SupCon takes two views).'
        )  # fmt: skip
        yield Finding(
            PROBLEM, 'train_dataloader.dataset.pipeline', what,
            "dict(type='ImageViews', num_views=2, transforms=[...]) around the augmentations of the pipeline",
        )  # fmt: skip
    elif head and not is_a('MODELS', head, SupConHead) and count > 1:
        yield Finding(
            WARNING, 'train_dataloader.dataset.pipeline', f'{count} views of each image for {head.get("type")}, which '
            'trains on each of them.', 'train_dataloader.dataset.pipeline: one view',
        )  # fmt: skip


def check_batches_of_labels(subject: Subject, loader: Any) -> Iterator[Finding]:
    """Check the labels of some batches, without reading images."""
    from hybridcls.models.heads import SupConHead

    part = subject.parts.get('train')
    if part is None or not part.labels or any(len(one) != 1 for one in part.labels):
        return
    labels = np.array([one[0] for one in part.labels])
    batches: list[np.ndarray] = []
    for numbers in getattr(loader, 'batch_sampler', None) or ():
        if max(numbers, default=len(labels)) >= len(labels):
            return
        batches.append(labels[np.asarray(numbers)])
        if len(batches) == _BATCHES:
            break
    if not batches:
        return
    classes = len(np.unique(labels))
    uniform = sum(len(np.unique(batch)) == 1 for batch in batches)
    largest = np.unique(labels, return_counts=True)[1].max() / len(labels)
    by_chance = largest ** len(batches[0])  # where one class has most images, shuffled batches hold it alone, too
    if classes > 1 and uniform > len(batches) / 2 > 2 * by_chance * len(batches) and len(batches[0]) > 2:
        yield Finding(
            PROBLEM, 'train_dataloader.sampler', f'{uniform} of the first '
            f'{counted(len(batches), "batch", "batches")} {"holds" if uniform == 1 else "hold"} one class.',
            "train_dataloader.sampler=dict(type='DefaultSampler', shuffle=True)",
        )  # fmt: skip
    yield from _repeated(subject, part)
    size = len(batches[0])
    if is_a('MODELS', subject.get('model.head'), SupConHead) and subject.is_written(('train_dataloader', 'batch_size')):
        positive = np.mean([np.mean([np.sum(batch == label) > 1 for label in batch]) for batch in batches])
        if size < 16 or positive < _WITH_POSITIVE / 2:
            yield Finding(
                WARNING, 'train_dataloader.batch_size',
                f'in batches of {size}, {positive:.0%} of the images have another of their class, and at most '
                f'{size - 1} push them away.',
                "a larger batch_size, or train_dataloader.batch_sampler=dict(type='PKSampler', images_per_class=...)",
            )  # fmt: skip


def _repeated(subject: Subject, part: DataPart) -> Iterator[Finding]:
    wanted = subject.get('train_dataloader.batch_sampler.images_per_class')
    counts = {name: count for name, count in part.count_classes().items() if count}
    few = [name for name, count in counts.items() if isinstance(wanted, int) and count < wanted]
    if few:
        yield Finding(
            WARNING, 'train_dataloader.batch_sampler.images_per_class',
            f'{counted(len(few), "class", "classes", of=len(counts))} with fewer than images_per_class={wanted} '
            f'images, which are repeated '
            f'within a batch: {named(few)}.',
            f'train_dataloader.batch_sampler.images_per_class={max(2, min(counts.values()))}',
        )  # fmt: skip


def check_colors(subject: Subject, model: Any, folder: str) -> Iterator[Finding]:
    """Check the colour order by a red image through pipeline and data preprocessor: models take RGB."""
    part = subject.parts.get('val') or subject.parts.get('train')
    if part is None or not part.paths or not hasattr(model, 'data_preprocessor'):
        return
    leaf = next(iter(leaves_of(part.dataset)))
    if next(loaders_of(leaf.pipeline), None) is None and 'Load' not in str(leaf.pipeline):
        return
    file = os.path.join(folder, 'red.png')
    Image.new('RGB', (64, 64), (255, 0, 0)).save(file)
    info = {**leaf.get_data_info(0), 'img_path': file}
    with isolated_randomness():
        sample = leaf.pipeline(info)
        view = views_of(sample['inputs'])[0]
        # A copy: it checks the values of its first batch, which is to be one of the training.
        data = deepcopy(model.data_preprocessor)(dict(inputs=view[None], data_samples=[sample['data_samples']]), False)
    strength = _strength(data['inputs'][0])
    if len(strength) == 3 and strength[2] > strength[0] + 1e-3:
        key = 'model.data_preprocessor' if subject.get('model.data_preprocessor') else 'data_preprocessor'
        kind = type(model.data_preprocessor)
        converts = takes_argument(kind, 'to_rgb') and subject.get(f'{key}.to_rgb') is False
        yield Finding(
            PROBLEM, key, 'a red image reaches the model as a blue one: its channels are blue, green, red.',
            f'{key}.to_rgb=True' if converts else f'{key}: turn the channels of {kind.__name__}',
        )  # fmt: skip


def _strength(image: Tensor) -> Sequence[float]:
    means: list[float] = image.float().mean(dim=(-2, -1)).tolist()
    return means
