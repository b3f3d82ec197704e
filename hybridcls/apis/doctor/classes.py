"""Findings about classes: too few images, imbalance, names that differ between splits or nearly equal each other."""

import difflib
import re
import unicodedata
from collections.abc import Iterator, Sequence

from hybridcls.checks import counted, did_you_mean, is_or_are
from hybridcls.engine.config.tree import is_a, walk

from .data_parts import DataPart
from .finding import NOTE, PROBLEM, WARNING, Finding, named
from .subject import Subject

__all__ = ['alike_names', 'check_classes', 'compares_images']

_FEWEST, _IMBALANCE, _MOST_OF_ALL = 2, 10, 0.8
_LIKENESS, _LONG, _RARE = 0.9, 6, 0.2


def check_classes(subject: Subject) -> Iterator[Finding]:
    """Check the classes of the training data, then compare those of the other splits with them."""
    train = subject.parts.get('train')
    for part in subject.parts.values():
        if part.split == 'train' or part.labels != getattr(train, 'labels', None):
            yield from _counts(subject, part)
    if train is None or not train.labels:
        return
    yield from _near_names(train)
    yield from _head(subject, train)
    for part in subject.parts.values():
        if part.split != 'train' and part.classes and train.classes:
            if compares_images(subject, part.split):
                yield from _unseen(part, train)
            else:
                yield from _beside(part, train)


def _counts(subject: Subject, part: DataPart) -> Iterator[Finding]:
    counts = {name: count for name, count in part.count_classes().items() if count}
    if not counts:
        if part.split == 'train' and part.paths and not part.labels and _needs_labels(subject):
            yield Finding(PROBLEM, part.key, 'the training images have no labels.', f'{part.key}.with_label=True')
        return
    if len(counts) == 1 and sum(len(labels) == 1 for labels in part.labels) == len(part.labels):
        level = PROBLEM if part.split == 'train' else WARNING
        yield Finding(
            level, part.key, f'all images of {part.split} ({len(part.labels):,}) have one label, {next(iter(counts))}.',
            f'{part.key}: data_root or data_prefix to the folder of the class folders, or the labels of ann_file',
        )  # fmt: skip
        return
    if part.split != 'train':
        return
    few = {name: count for name, count in counts.items() if count < _FEWEST}
    if few:
        yield Finding(
            WARNING, part.key, f'{counted(len(few), "class", "classes", of=len(counts))} with a single image to '
            f'train on: {named(few)}.',
            'add images, or remove the class',
        )  # fmt: skip
    most, fewest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    ratio, share = counts[most] / counts[fewest], counts[most] / sum(counts.values())
    if (ratio > _IMBALANCE or share > _MOST_OF_ALL) and not _is_balanced(subject):
        yield Finding(
            WARNING, part.key,
            f'{most} has {counted(counts[most], "image")} and {fewest} {counts[fewest]}: {ratio:.0f} times as many '
            f'({share:.0%} of all).',
            _for_imbalance(subject),
        )  # fmt: skip


def _needs_labels(subject: Subject) -> bool:
    return subject.get('model.head.use_labels', True) and subject.get('model.head') is not None


def _is_balanced(subject: Subject) -> bool:
    """Return whether the config has a setting for imbalanced classes."""
    keys = {'class_weight', 'logit_adjustment', 'pos_weight', 'oversample_thr', 'images_per_class'}
    nodes = [subject.get(key) for key in ('model', 'train_dataloader')]
    return any(isinstance(node, dict) and any(node.get(key) for key in keys) for top in nodes for _, node in walk(top))


def _for_imbalance(subject: Subject) -> str:
    from hybridcls.engine.config.tree import takes

    if subject.get('model') is None or takes('MODELS', subject.get('model.head'), 'class_weight'):
        return "model.head.class_weight='balanced', or model.head.logit_adjustment=1.0"
    return "train_dataloader.batch_sampler=dict(type='PKSampler', images_per_class=...), or ClassBalancedDataset"


def _near_names(part: DataPart) -> Iterator[Finding]:
    counts = part.count_classes()
    for names, is_sure in alike_names(part.classes):
        shown = ' and '.join(f'{name!r} ({counted(counts.get(name, 0), "image")})' for name in names)
        rare = min(counts.get(name, 0) for name in names) <= _RARE * max(counts.get(name, 0) for name in names)
        yield Finding(
            WARNING if is_sure or rare else NOTE, part.key, f'{shown} may be one class.',
            f'rename one of the folders (or labels) to {max(names, key=lambda name: counts.get(name, 0))!r}',
        )  # fmt: skip


def alike_names(classes: Sequence[str]) -> list[tuple[list[str], bool]]:
    """Return groups of names that may mean one class, and whether only their spelling differs.

    Example:
        >>> alike_names(['Cat', 'cats', 'dog', 'red car', 'red_car', 'labrador', 'labardor', 'n01', 'n02'])
        [(['Cat', 'cats'], True), (['red car', 'red_car'], True), (['labrador', 'labardor'], False)]
    """
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(_plain(name), []).append(name)
    found = [(names, True) for names in groups.values() if len(names) > 1]
    long = sorted(plain for plain in groups if len(plain) >= _LONG)
    for number, plain in enumerate(long if len(long) <= 2000 else ()):
        for other in long[number + 1 :]:
            if _differ_in_digits(plain, other) or abs(len(plain) - len(other)) > 2:
                continue
            matcher = difflib.SequenceMatcher(None, plain, other)
            if matcher.real_quick_ratio() >= _LIKENESS and matcher.quick_ratio() >= _LIKENESS and (
                matcher.ratio() >= _LIKENESS or sorted(plain) == sorted(other)
            ):  # fmt: skip
                names = [groups[plain][0], groups[other][0]]
                found.append((sorted(names, key=list(classes).index), False))
    return found


def _plain(name: str) -> str:
    """Normalize a name: no case, punctuation, accents or plural s."""
    text = unicodedata.normalize('NFKD', name).casefold()
    text = ''.join(sign for sign in text if sign.isalnum())
    return text[:-1] if len(text) > 3 and text.endswith('s') and not text.endswith('ss') else text


def _differ_in_digits(one: str, other: str) -> bool:
    """Return whether two names differ by numbers in them, which makes them different classes."""
    return re.findall(r'\d+', one) != re.findall(r'\d+', other)


def _head(subject: Subject, train: DataPart) -> Iterator[Finding]:
    number = subject.get('model.head.num_classes')
    if not isinstance(number, int):
        return
    labels = {label for numbers in train.labels for label in numbers}
    there = max(len(train.classes), max(labels, default=-1) + 1)
    change = f'num_classes={there} (or leave it out: it is counted)'
    if number < there:
        what = f'the head has num_classes={number}, and the training data {counted(there, "class", "classes")}.'
        yield Finding(PROBLEM, 'model.head.num_classes', what, change)
    elif number > there:
        never = number - there
        what = (
            f'the head has num_classes={number}, and the training data {counted(there, "class", "classes")}: '
            f'{never} {is_or_are(never)} never seen.'
        )
        yield Finding(PROBLEM, 'model.head.num_classes', what, change)
    for key in ('val_evaluator', 'test_evaluator'):
        metrics = subject.get(key, [])
        for place, metric in walk(metrics, (key,)):
            wrong = metric.get('num_classes') if isinstance(metric, dict) else None
            if isinstance(wrong, int) and wrong != number:
                where = '.'.join(map(str, place))
                what = f'num_classes={wrong}, and the head has {number}.'
                yield Finding(PROBLEM, where, what, f'{where}.num_classes={number}')


def compares_images(subject: Subject, split: str) -> bool:
    """Whether all metrics of a split compare images with each other, whose classes need not be those of the model."""
    from hybridcls.evaluation import RetrievalMetric, VerificationMetric

    evaluator = subject.get(f'{split}_evaluator')
    metrics = [evaluator] if isinstance(evaluator, dict) else list(evaluator or ())
    of_images = (RetrievalMetric, VerificationMetric)
    return bool(metrics) and all(any(is_a('METRICS', one, kind) for kind in of_images) for one in metrics)


def _unseen(part: DataPart, train: DataPart) -> Iterator[Finding]:
    unseen = [name for name, count in part.count_classes().items() if count and name not in train.classes]
    if unseen:
        yield Finding(
            NOTE, part.key, f'{counted(len(unseen), "class", "classes", of=len(part.classes))} of {part.split} '
            f'{is_or_are(len(unseen))} unseen in the training, which its metrics allow: {named(unseen)}.',
        )  # fmt: skip


def _beyond(part: DataPart, train: DataPart) -> Iterator[Finding]:
    """Numbers are not matched by name: one that the training data do not have counts as unknown."""
    count = len(train.classes)
    numbers = [label for labels in part.labels for label in labels]
    above = [label for label in numbers if label >= count]
    if above:
        shift = ' Numbers of classes count from 0.' if min(numbers) == 1 and max(numbers) == count else ''
        yield Finding(
            PROBLEM if len(above) == len(numbers) else WARNING, part.key,
            f'{named(sorted(set(above)))} of {part.split} {is_or_are(len(set(above)))} not among the class numbers of '
            f'the training data, 0 to {count - 1}, which makes {counted(len(above), "image")} unknown.{shift}',
            f'the labels of {part.key}.ann_file',
        )  # fmt: skip


def _beside(part: DataPart, train: DataPart) -> Iterator[Finding]:
    """Compare the classes of a split with those of the training data; unmatched names count as unknown."""
    from hybridcls.structures import ClassNames

    names, own = (ClassNames.of(getattr(one.dataset, 'metainfo', None)) for one in (train, part))
    if names is None or own is None:
        return
    if names.numbers_only or own.numbers_only:
        yield from _beyond(part, train)
        return
    counts = part.count_classes()
    here = [own.names[number] for number, found in enumerate(names.find(own)) if found is None]
    unknown = [name for name in here if counts.get(name)]
    if unknown:
        images = sum(counts[name] for name in unknown)
        hint = next(filter(None, (did_you_mean(name, train.classes) for name in unknown)), '')
        level = PROBLEM if images == sum(counts.values()) else WARNING
        yield Finding(
            level, part.key,
            f'{counted(len(unknown), "class", "classes", of=len(own.names))} of {part.split} '
            f'{is_or_are(len(unknown))} not among the {len(names.names)} of the '
            f'training data, which makes {counted(images, "image")} unknown: {named(unknown)}.{hint}',
            f'rename their folders, or {part.key}.classes=[...] with the names of the training data',
        )  # fmt: skip
    missing = [name for number, name in enumerate(names.names) if number not in names.find(own)]
    missing += [name for name, count in counts.items() if not count and name in names.names]
    missing = sorted(set(missing) - set(unknown))
    if missing and not (unknown and level == PROBLEM):
        yield Finding(
            NOTE if part.split == 'test' or len(missing) < len(names.names) / 2 else WARNING, part.key,
            f'{counted(len(missing), "class", "classes", of=len(names.names))} without an image in {part.split}: '
            f'{named(missing)}.',
            'add images of them, or read the result without them',
        )  # fmt: skip
    if {name for name in names.names} == set(own.names) and names.names != own.names:
        yield Finding(
            NOTE, part.key, f'the classes of {part.split} are in another order than in the training data; they are '
            'matched by name.', f'{part.key}.classes: leave it out',
        )  # fmt: skip
