"""Class names of a metainfo or a checkpoint, and which of them are the same class."""

import pytest

from hybridcls.structures import ClassNames, join_class_names

TITLES = ClassNames(('Katze', 'Hund', 'Emu'), ('cat', 'dog', 'emu'))


@pytest.mark.parametrize(
    ('metainfo', 'names'),
    [
        (None, None),
        ({}, None),
        (dict(classes=None), None),
        (dict(classes=[]), None),
        (dict(classes=['a', 7]), ClassNames(('a', '7'))),
        (dict(classes=('A',), class_folders=['a']), ClassNames(('A',), ('a',))),
        (dict(classes=('0', '1'), classes_are_numbers=True), ClassNames(('0', '1'), (), True)),
    ],
)
def test_names_of_a_metainfo(metainfo, names):
    assert ClassNames.of(metainfo) == names
    if names is not None:
        kept = {key: value for key, value in names.as_metainfo().items() if value is not None}
        assert ClassNames.of(kept) == names
        assert kept.keys() == metainfo.keys()


@pytest.mark.parametrize(
    ('checkpoint', 'names'),
    [
        (dict(meta=dict(dataset_meta=dict(classes=('a', 'b')))), ('a', 'b')),
        (dict(meta=dict(CLASSES=['a', 'b'])), ('a', 'b')),
        (dict(meta=dict(dataset_meta=None)), None),
        (dict(meta=dict()), None),
        (dict(meta=3), None),
        ({'layer.weight': 1}, None),
    ],
)
def test_names_of_a_checkpoint(checkpoint, names):
    found = ClassNames.of_checkpoint(checkpoint)
    assert (found and found.names) == names


def test_titles_match_folders():
    folders = ClassNames(('ant', 'dog', 'emu'))
    assert TITLES.find(folders) == [None, 1, 2]
    assert folders.find(TITLES) == [None, 1, 2]
    assert TITLES.find(ClassNames(('Emu', 'Katze'))) == [2, 0]
    assert TITLES.same_as(ClassNames(('cat', 'dog', 'emu')))
    assert not TITLES.same_as(ClassNames(('dog', 'cat', 'emu')))


def test_title_has_precedence_over_a_folder():
    assert ClassNames(('dog', 'cat'), ('cat', 'emu')).find(ClassNames(('cat',))) == [1]


def test_duplicate_names_are_errors():
    cranes = ClassNames(('crane', 'ant', 'crane'))  # as in ImageNet
    assert cranes.find(cranes) == [0, 1, 2]
    assert cranes.find(ClassNames(('ant',))) == [1]
    with pytest.raises(ValueError, match="expected each name once, got 'crane'"):
        cranes.find(ClassNames(('ant', 'crane')))
    with pytest.raises(ValueError, match=r"expected each class once, got \['cat', 'Katze'\] for one class, 'Katze'"):
        TITLES.find(ClassNames(('cat', 'Katze')))


def test_moved_classes():
    assert TITLES.moved(ClassNames(('cat', 'emu', 'dog'))) == ['emu', 'dog']
    assert TITLES.moved(ClassNames(('cat', 'yak'))) == []
    assert ClassNames(('1', '0')).moved(ClassNames(('0', '1'), (), True)) == []


def test_joining_appends_new_classes_by_name():
    joined = join_class_names(ClassNames(('dog', 'cat')), [ClassNames(('emu', 'dog')), ClassNames(('bee', 'emu'))])
    assert joined == ClassNames(('dog', 'cat', 'bee', 'emu'))
    joined = join_class_names(TITLES, [ClassNames(('bee', 'cat')), ClassNames(('Biene',), ('bee',))])
    assert joined.names[3] == 'Biene'
    assert joined.folders == ('cat', 'dog', 'emu', 'bee')
    assert join_class_names(TITLES, []) == TITLES


def test_many_classes_are_joined_quickly():
    first, second = (ClassNames(tuple(f'{n:06}' for n in range(start, start + 50_000))) for start in (0, 40_000))
    assert len(join_class_names(first, [second]).names) == 90_000
