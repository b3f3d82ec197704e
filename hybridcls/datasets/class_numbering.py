"""Renumber the classes of all datasets of a run by class *name*.

Every dataset numbers its classes by itself: a folder that lacks one has other numbers than the training data.
The labels of a built dataset are rewritten once, to the model's numbers.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

from hybridcls.checks import counted, is_or_are, listed, verb_of
from hybridcls.compat.mmengine import update_metainfo, whole_dataset
from hybridcls.structures import UNKNOWN_LABEL, ClassNames, join_class_names

from .dataset_nodes import initialize, leaves_of, nodes_of
from .label_rewriting import labels_in, write_labels

__all__ = ['ClassNumbering', 'Remark', 'class_names_of', 'join_classes']


class Remark(NamedTuple):
    """A log message about a dataset, and its level of :mod:`logging`.

    Args:
        has_unknown (bool): Whether the dataset has images of classes that the model does not have.
        only (tuple[str, ...]): The names of its classes, if it has no image of a class of the model, whose classes
            have names.
    """

    level: int
    text: str
    has_unknown: bool = False
    only: tuple[str, ...] = ()


def class_names_of(dataset: Any) -> Optional[ClassNames]:
    """Return the class names of a dataset, also through the wrappers of mmengine, mmpretrain and torch.

    Returns:
        ClassNames or None: None if it has no class names.

    Raises:
        ValueError: If it concatenates datasets that number their classes differently.

    Example:
        >>> from mmengine.dataset import RepeatDataset
        >>> from hybridcls.datasets import Digits
        >>> class_names_of(RepeatDataset(Digits(digits=(3, 7)), times=2)).names
        ('3', '7')
    """
    initialize(dataset)
    found = [names for leaf in leaves_of(dataset) if (names := ClassNames.of(_metainfo_of(leaf)))]
    for names in found[1:]:
        if not names.same_as(found[0]):
            raise ValueError(
                f'{type(whole_dataset(dataset)).__name__}: expected datasets with the same class numbers, got '
                f'{listed(found[0].names)} and {listed(names.names)}. '
                "dict(type='hybridcls.ConcatDataset') concatenates them by class name."
            )
    return found[0] if found else None


def join_classes(caller: str, parts: Sequence[Any]) -> Optional[ClassNames]:
    """Renumber concatenated datasets to give each class name one number.

    Args:
        caller (str): Name used as the error prefix.
        parts: Datasets, bare or wrapped. Their labels are rewritten in place.

    Returns:
        ClassNames or None: The union of the classes: those of the first part in their order, then new ones by name.
        None if no part has class names.

    Raises:
        ValueError: If a part has numbers as labels, and the parts with names have no class of such a number.
    """
    for part in parts:
        initialize(part)
    found = [names for part in parts for leaf in leaves_of(part) if (names := ClassNames.of(_metainfo_of(leaf)))]
    named = [names for names in found if not names.numbers_only]
    if named:
        joined = join_class_names(named[0], named[1:])
        numbering = ClassNumbering(joined, len(joined.names))
        for number, part in enumerate(parts):
            numbering.renumber(part, f'{caller}: part {number}')
    elif found:
        joined = max(found, key=lambda names: len(names.names))
        for part in parts:
            for node in nodes_of(part):
                update_metainfo(node, joined.as_metainfo())
    else:
        return None
    return joined


class ClassNumbering:
    """The classes of the model, followed by those that only other datasets of a run have.

    Args:
        model (ClassNames, optional): Class names of the training data, from the data or the checkpoint. None: not
            available; the first dataset with names provides them.
        num_classes (int, optional): Of the classifying head; None: there is none. Classes that the model does not have
            get the numbers above, which metrics read as "unknown".
    """

    def __init__(self, model: Optional[ClassNames], num_classes: Optional[int] = None) -> None:
        self.num_classes = num_classes
        self._take(model or ClassNames(tuple(map(str, range(num_classes or 0))), numbers_only=True))

    def _take(self, model: ClassNames) -> None:
        self.model = model
        unnamed = [f'class {number}, unnamed' for number in range(len(model.names), self.num_classes or 0)]
        self.all = model.with_more([(name, name) for name in unnamed])
        self.first_unknown = len(self.all.names)

    def renumber(self, dataset: Any, what: str) -> Remark:
        """Rewrite the labels of a built dataset; a second call changes nothing.

        Args:
            dataset: A dataset of mmengine, bare or wrapped. A part with class names is matched by name, or by folder
                name where it has titles; a part with numbers keeps them, unless they are class names. Afterwards
                ``metainfo`` has the classes of the model and those that follow.
            what (str): Its name in messages: ``'val'``.

        Returns:
            Remark: The log message.

        Raises:
            ValueError: If numbers without names exceed the classes of the model, or are ambiguous.
            TypeError: If labels have to change in a dataset that is not mmengine's ``BaseDataset``.
        """
        initialize(dataset)
        nodes = list(nodes_of(dataset))
        leaves = [(leaf, ClassNames.of(_metainfo_of(leaf))) for leaf in leaves_of(dataset)]
        named = [(leaf, names) for leaf, names in leaves if names is not None and not names.numbers_only]
        remarks = [self._renumber_names(named, what)] if named else []
        for leaf, names in leaves:
            if names is None or names.numbers_only:
                remark = self._renumber_numbers(leaf, what)
                remarks += [remark] if remark else []
        has_unknown = any(remark.has_unknown for remark in remarks)
        names = self.all if has_unknown else self.model
        if names.names:
            for node in nodes:
                update_metainfo(node, names.as_metainfo())
        level = max((remark.level for remark in remarks), default=logging.DEBUG)
        only = remarks[0].only if len(remarks) == 1 else ()
        return Remark(level, ' '.join(remark.text for remark in remarks) or f'{what}: no labels.', has_unknown, only)

    def _renumber_names(self, leaves: Sequence[tuple[Any, ClassNames]], what: str) -> Remark:
        own = join_class_names(leaves[0][1], [names for _, names in leaves[1:]])
        nameless = self._name_the_model(own, what)
        images: dict[str, int] = {}
        new = []
        for leaf, names in leaves:
            unknown = [
                n for n, found in enumerate(self.all.find(names)) if found is None or found >= self.first_unknown
            ]
            counts = Counter(labels_in(leaf)) if unknown else Counter()
            with_images = [number for number in unknown if counts[number]]
            for number in with_images:
                images[names.names[number]] = images.get(names.names[number], 0) + counts[number]
            pairs = [names.name_and_folder(number) for number in with_images]
            new.append(ClassNames(tuple(name for name, _ in pairs), tuple(folder for _, folder in pairs)))
        self.all = join_class_names(self.all, new)
        for leaf, names in leaves:
            write_labels(leaf, dict(enumerate(self.all.find(names))), what)
        if nameless and not images:
            return nameless
        total = len(self.model.names)
        if images:
            labels = (label for leaf, _ in leaves for label in labels_in(leaf))
            has_known = any(0 <= label < self.first_unknown for label in labels)
            none = '' if has_known else ' No image has a class of the model: the accuracy is 0 and means nothing.'
            return Remark(
                logging.WARNING,
                f"{what}: {len(images)} of {len(own.names)} class names {is_or_are(len(images))} not among the model's "
                f'{total}: {listed(images)} ({counted(sum(images.values()), "image")}); '
                f'{verb_of(sum(images.values()), "it counts", "they count")} as unknown, except in '
                f'retrieval and verification.'
                f'{none}{self._advice(own, images)}',
                has_unknown=True,
                only=() if has_known or self.model.numbers_only else tuple(images),
            )
        here = {number for number in self.model.find(own) if number is not None}
        if len(here) == total:
            return Remark(logging.INFO, f"{what}: {total} classes, the same as the model's.")
        missing = [name for number, name in enumerate(self.model.names) if number not in here]
        return Remark(logging.INFO, f"{what}: {len(here)} of the model's {total} classes; without {listed(missing)}.")

    def _advice(self, own: ClassNames, unknown: Mapping[str, int]) -> str:
        if self.model.numbers_only:
            return _NAME_THE_TRAINING
        if len(own.names) == len(unknown) == len(self.model.names):
            return (
                ' If they are the same classes under different names, set classes=[...] in this dataset to the names '
                'of the model, in the order of the folders.'
            )
        return ''

    def _name_the_model(self, own: ClassNames, what: str) -> Optional[Remark]:
        """Adopt the class names of a dataset for a model that has only numbers, if the two are compatible."""
        if not self.model.numbers_only or any(number is not None for number in self.all.find(own)):
            return None
        if self.model.names and len(own.names) != len(self.model.names):
            return None
        self._take(own)
        return Remark(
            logging.WARNING,
            f"{what}: the model's classes have no names; the order of these {len(own.names)} is taken for them: "
            f'{listed(own.names)}.{_NAME_THE_TRAINING}',
        )

    def _renumber_numbers(self, leaf: Any, what: str) -> Optional[Remark]:
        numbers = sorted({*labels_in(leaf)} - {UNKNOWN_LABEL})
        if not numbers:
            return None
        written = ClassNames(tuple(map(str, numbers)))
        found = self.all.find(written)
        other = [n for n, number in zip(numbers, found, strict=True) if number is not None and number != n]
        if not self.model.numbers_only and other:
            strange = [n for n, number in zip(numbers, found, strict=True) if number is None]
            if strange:
                raise ValueError(
                    f"{what}: expected labels that are all names or all numbers of the model's classes, "
                    f'{listed(self.model.names)}, got {other[0]}, which is a name, and {strange[0]}, which is not. '
                    f'Set classes=[...] in this dataset: the names of its labels, or the names by number.'
                )
            write_labels(leaf, dict(zip(numbers, found, strict=True)), what)
            return Remark(logging.INFO, f"{what}: its labels are the names of {len(numbers)} of the model's classes.")
        beyond = [number for number in numbers if number >= self.first_unknown]
        if beyond and self.num_classes is not None:
            raise ValueError(
                f'{what}: expected labels from 0 to {self.first_unknown - 1}, the numbers of the '
                f'{self.first_unknown} classes, got {beyond[-1]}. Count from 0, or, if the model does not have these '
                'classes, name them with classes=[...] in this dataset.'
            )
        if beyond and self.model.names:
            self.all = join_class_names(self.all, [ClassNames(tuple(map(str, beyond)))])
            write_labels(leaf, {**dict(zip(numbers, numbers, strict=True)), **self._numbers_of(beyond)}, what)
            return Remark(
                logging.WARNING,
                f'{what}: {len(beyond)} of {len(numbers)} labels {is_or_are(len(beyond))} beyond the '
                f'{self.first_unknown} classes of the model: {listed(map(str, beyond))}; '
                f'{verb_of(len(beyond), "it counts", "they count")} as unknown, except in '
                f'retrieval and verification.',
                has_unknown=True,
            )
        if self.model.numbers_only:
            return Remark(logging.INFO, f"{what}: its labels are numbers, as the model's classes are.")
        examples = ', '.join(f'{number}: {self.all.names[number]}' for number in numbers[:3])
        return Remark(
            logging.INFO,
            f"{what}: its labels are numbers without names, read as the numbers of the model's classes "
            f'({examples}{", ..." if len(numbers) > 3 else ""}).',
        )

    def _numbers_of(self, labels: Sequence[int]) -> dict[int, Optional[int]]:
        return dict(zip(labels, self.all.find(ClassNames(tuple(map(str, labels)))), strict=True))


_NAME_THE_TRAINING = ' Set classes=[...] in the training data to match by name.'


def _metainfo_of(dataset: Any) -> Optional[Mapping]:
    return getattr(dataset, 'metainfo', None)
