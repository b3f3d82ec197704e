"""Class names of a dataset or a model, and their comparison."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Optional

__all__ = ['ClassNames', 'join_class_names']


class ClassNames(NamedTuple):
    """Class names by number, as in a dataset's ``metainfo`` and in a checkpoint.

    Args:
        names (tuple[str, ...]): Key ``classes``.
        folders (tuple[str, ...]): Key ``class_folders``: if the names are titles, the folders of the classes. Empty
            otherwise.
        numbers_only (bool): Key ``classes_are_numbers``: the data has only numbers, and the names are these numbers.
    """

    names: tuple[str, ...]
    folders: tuple[str, ...] = ()
    numbers_only: bool = False

    @classmethod
    def of(cls, metainfo: Optional[Mapping[str, Any]]) -> Optional['ClassNames']:
        """Read the names from ``metainfo``; None if it has none.

        Example:
            >>> ClassNames.of(dict(classes=['cat', 'dog']))
            ClassNames(names=('cat', 'dog'), folders=(), numbers_only=False)
        """
        classes = (metainfo or {}).get('classes')
        if classes is None or isinstance(classes, str) or not len(classes):
            return None
        folders = (metainfo or {}).get('class_folders') or ()
        return cls(tuple(map(str, classes)), tuple(folders), bool((metainfo or {}).get('classes_are_numbers')))

    @classmethod
    def of_checkpoint(cls, checkpoint: Mapping[str, Any]) -> Optional['ClassNames']:
        """Read the names of the training data from a checkpoint of mmengine or mmpretrain; None for bare weights."""
        meta = checkpoint.get('meta')
        if not isinstance(meta, Mapping):
            return None
        return cls.of(meta.get('dataset_meta')) or cls.of(dict(classes=meta.get('CLASSES')))

    def as_metainfo(self) -> dict[str, Any]:
        """Return the entries of ``metainfo``; None for an entry to remove."""
        return dict(
            classes=self.names, class_folders=self.folders or None, classes_are_numbers=self.numbers_only or None
        )

    def find(self, other: 'ClassNames') -> list[Optional[int]]:
        """Return the number of each class of ``other`` here, by its name, else by its folder; None if missing.

        Raises:
            ValueError: If two classes of ``other`` are one here, or a name occurs twice here.

        Example:
            >>> ClassNames(('Katze', 'Hund'), ('cat', 'dog')).find(ClassNames(('dog', 'emu')))
            [1, None]
        """
        if self.same_as(other):
            return list(range(len(other.names)))
        number_of: dict[str, int] = {}
        twice = set()
        for number, name in self._spellings():
            if number_of.setdefault(name, number) != number:
                twice.add(name)
        found = []
        for number, name in enumerate(other.names):
            spellings = [name, *other.folders[number : number + 1]]
            here = next((spelling for spelling in spellings if spelling in number_of), None)
            if here in twice:
                raise ValueError(
                    f'class names: expected each name once, got {here!r} for two of the {len(self.names)} classes'
                )
            found.append(None if here is None else number_of[here])
        known = [number for number in found if number is not None]
        if len(set(known)) < len(known):
            repeated = next(number for number in known if known.count(number) > 1)
            both = [other.names[position] for position, number in enumerate(found) if number == repeated]
            raise ValueError(
                f'class names: expected each class once, got {both} for one class, {self.names[repeated]!r}'
            )
        return found

    def same_as(self, other: 'ClassNames') -> bool:
        """Return whether both have the same classes with the same numbers, by display name or by folder name."""
        if len(self.names) != len(other.names):
            return False
        mine, others = self.folders or self.names, other.folders or other.names
        return self.names == other.names or mine == others

    def moved(self, other: 'ClassNames') -> list[str]:
        """Return the classes that both have under different numbers.

        Example:
            >>> ClassNames(('cat', 'dog', 'emu')).moved(ClassNames(('dog', 'cat', 'yak')))
            ['dog', 'cat']
        """
        if self.numbers_only or other.numbers_only:
            return []
        found = self.find(other)
        return [other.names[number] for number, here in enumerate(found) if here is not None and here != number]

    def with_more(self, classes: Sequence[tuple[str, str]]) -> 'ClassNames':
        """Append classes, each a name and its folder (or the name twice)."""
        names = self.names + tuple(name for name, _ in classes)
        folders = (self.folders or self.names) + tuple(folder for _, folder in classes)
        return ClassNames(names, () if folders == names else folders, self.numbers_only)

    def name_and_folder(self, number: int) -> tuple[str, str]:
        """Return the name of a class and its folder (or the name twice)."""
        return self.names[number], (self.folders or self.names)[number]

    def _spellings(self) -> Iterator[tuple[int, str]]:
        yield from enumerate(self.names)
        names = set(self.names)  # a title has precedence over a folder of the same name
        yield from ((number, name) for number, name in enumerate(self.folders) if name not in names)


def join_class_names(first: ClassNames, others: Iterable[ClassNames]) -> ClassNames:
    """Return the union of the classes by name: those of ``first`` in order, then those only in others.

    Example:
        >>> join_class_names(ClassNames(('dog', 'cat')), [ClassNames(('emu', 'dog', 'bee'))]).names
        ('dog', 'cat', 'bee', 'emu')
    """
    new = {
        other.name_and_folder(number)
        for other in others
        for number, found in enumerate(first.find(other))
        if found is None
    }
    added: list[tuple[str, str]] = []
    spellings: set[str] = set()
    for name, folder in sorted(new):
        if not {name, folder} & spellings:  # two datasets may have different titles for one folder
            added.append((name, folder))
            spellings |= {name, folder}
    return first.with_more(added)
