"""Findings about what a pipeline makes of an image: its form and size, chance in a test, views, colours."""

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
_ADVICE = {
    True: "dict(type='LoadImage') at the start of the pipeline",
    False: "dict(type='PackInputs') at the end of the pipeline",
}
_CHANCE = ('Rand', 'Jitter', 'Erasing', 'Cutout', 'Mix', 'Flip', 'AutoAugment', 'AugMix')
_BATCHES = 20
_WITH_POSITIVE = 0.5


def check_samples(subject: Subject) -> Iterator[Finding]:
    """Run the pipelines for some images."""
    sizes = {}
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
            yield from _views(subject, len(views[0]))
        elif part.dataset is not getattr(subject.parts.get('train'), 'dataset', None):
            yield from _chance(part, subject)
    for split in ('val', 'test'):
        if 'train' in sizes and sizes.get(split, sizes['train']) != sizes['train']:
            yield Finding(
                WARNING, f'{split}_dataloader.dataset.pipeline',
                f'training images have {sizes["train"][0]} x {sizes["train"][1]} pixels, those of {split} '
                f'{sizes[split][0]} x {sizes[split][1]}.',
                'img_size at the top level, which reaches all pipelines',
            )  # fmt: skip


def views_of(inputs: Any) -> list[Tensor]:
    """Return the views of an image, one if the pipeline makes no more."""
    return list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]


def _samples(subject: Subject, part: DataPart) -> tuple[list[Any], Optional[Finding]]:
    """Run the pipeline for some readable images; return what leaves it, and the first error."""
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
    """Return the name of the transform that raised an error, the innermost, or ``''``."""
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
    """Whether an image of a test leaves the pipeline as something else the second time."""
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


def _views(subject: Subject, count: int) -> Iterator[Finding]:
    from hybridcls.models.heads import SupConHead

    head = subject.get('model.head', {})
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
    """Look at the labels of some batches, without reading images."""
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
    """Send a red image through pipeline and data preprocessor: models take red, green, blue."""
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
