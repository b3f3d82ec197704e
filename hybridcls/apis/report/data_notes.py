"""Caveats about the images of a report: missing classes, duplicates, training images."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from hybridcls.checks import counted, is_or_are, listed
from hybridcls.functional.metrics import share_interval

from ..held_out_images import training_dataset
from ..image_inputs import Item
from ..inferencer import HybridInferencer
from .configured_images import listed_images
from .evaluated_images import EvaluatedImages
from .near_copies import near_copies

__all__ = ['data_notes', 'repeated_files', 'same_files']


def data_notes(model: HybridInferencer, images: EvaluatedImages) -> list[str]:
    """Describe which images are left out, which classes have none, and which images trained the model.

    Args:
        model (HybridInferencer): The model.
        images (EvaluatedImages): All that were evaluated, whether the model has their class or not.
    """
    notes = []
    if images.unreadable:
        notes.append(f'{counted(len(images.unreadable), "image")} could not be read: {listed(images.unreadable, 5)}.')
    others = Counter(
        item.label or '(none)' for item, known in zip(images.items, images.known, strict=True) if not known
    )
    if others and model.classes:
        names = listed((f'{name} ({count})' for name, count in others.most_common()), 5)
        notes.append(
            f'{counted(others.total(), "image", of=len(images))} {is_or_are(others.total())} left out, because the '
            f'model has no class of this name: {names}.'
        )
    if model.classes and not model.multi_label:
        counts = Counter(images.labels[images.known].tolist())
        empty = [name for number, name in enumerate(model.classes) if not counts[number]]
        if empty:
            notes.append(
                f'{counted(len(empty), "class", "classes", of=len(model.classes))} '
                f'{"has" if len(empty) == 1 else "have"} no images here: {listed(empty, 5)}.'
            )
    repeated = repeated_files(images.items)
    if repeated:
        notes.append(f'{counted(repeated, "image")} {_copies(repeated, "exact")} of other images. All are counted.')
    return [*notes, *_of_training(model, images)]


def _of_training(model: HybridInferencer, images: EvaluatedImages) -> Iterator[str]:
    trained = listed_images(training_dataset(model.config), model)
    if trained is None:
        yield 'The training images are missing, so it is unknown whether the model was trained on some of these images.'
        return
    items = images.items
    found = same_files(items, trained)
    if found:
        yield (
            f'{counted(len(found), "image", of=len(items))} {_copies(len(found), "exact")} of training images, '
            f'which makes the results too good: {_pairs(found, "=")}.'
        )
    equal = dict(found)
    near = near_copies(items, trained)
    alike = [pair for pair in near.pairs if pair[0] not in equal]
    if alike:
        yield (
            f'{counted(len(alike), "image", of=len(items))} {_copies(len(alike), "near")} of training images '
            f'(another size, format or brightness, or mirrored), which makes the results too good: '
            f'{_pairs(alike, "like")}.'
        )
    if found or alike:
        yield from _without({*equal, *(path for path, _ in alike)}, images)
    if not near.is_whole:
        yield (
            f'Near copies were searched among {counted(near.images, "image", of=near.of_images)} and '
            f'{counted(near.trained, "training image", of=near.of_trained)}. hybridcls audit compares all of them.'
        )


def _copies(count: int, how: str) -> str:
    return f'is {"an" if how == "exact" else "a"} {how} copy' if count == 1 else f'are {how} copies'


def _pairs(pairs: Sequence[tuple[str, str]], between: str) -> str:
    return listed((f'{one} {between} {other}' for one, other in pairs), 3)


def _without(copies: set[str], images: EvaluatedImages) -> Iterator[str]:
    """Yield a sentence with the accuracy on the images that are no copies."""
    kept = images.known & np.array([item.source not in copies for item in images.items])
    if images.scores.shape[1] and images.truths is None and kept.any():
        right, count = int((~images.wrong[kept]).sum()), int(kept.sum())
        low, high = share_interval(right, count)
        yield (
            f'The accuracy on the {counted(count, "image")} without a copy is {100 * right / count:.1f} % '
            f'[{100 * low:.1f}, {100 * high:.1f}].'
        )


def same_files(items: Iterable[Item], others: Iterable[Item]) -> list[tuple[str, str]]:
    """Return the paths of images whose file equals another one, each with the path of that one.

    Only files of equal size are read. Images in memory are left out.
    """
    of_size: dict[int, list[str]] = {}
    for path, size in _sizes(others):
        of_size.setdefault(size, []).append(path)
    found = []
    digests: dict[str, bytes] = {}
    for path, size in _sizes(items):
        own = _digest(path, digests) if size in of_size else b''
        same = next((other for other in of_size.get(size, ()) if _digest(other, digests) == own), None)
        if same is not None:
            found.append((path, same))
    return found


def repeated_files(items: Iterable[Item]) -> int:
    """Count the images whose file equals an earlier one; only files of equal size are read."""
    of_size: dict[int, list[str]] = {}
    for path, size in _sizes(items):
        of_size.setdefault(size, []).append(path)
    return sum(
        len(paths) - len({_digest(path, {}) for path in set(paths)}) for paths in of_size.values() if len(paths) > 1
    )


def _digest(path: str, known: dict[str, bytes]) -> bytes:
    if path not in known:
        with open(path, 'rb') as file:
            known[path] = hashlib.blake2b(file.read(), digest_size=16).digest()
    return known[path]


def _sizes(items: Iterable[Item]) -> Iterator[tuple[str, int]]:
    for item in items:
        if isinstance(item.source, str) and os.path.isfile(item.source):
            yield item.source, os.path.getsize(item.source)
