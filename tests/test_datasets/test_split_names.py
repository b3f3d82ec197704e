"""Names of splits, as folders and tables write them."""

import pytest

from hybridcls.datasets.split_names import split_folders, split_named


@pytest.mark.parametrize(
    ('name', 'split'),
    [('train', 'train'), ('Training', 'train'), (' VALID ', 'val'), ('dev', 'val'), ('test', 'test'), ('bus', None)],
)
def test_names(name, split):
    assert split_named(name) == split


@pytest.mark.parametrize(
    ('folders', 'found'),
    [
        (['train', 'val'], dict(train='train', val='val')),
        (['Test', 'Train', 'extra'], dict(train='Train', test='Test')),
        (['train'], dict(train='train')),
        (['bus', 'car', 'train'], {}),  # vehicles
        (['val', 'test'], {}),
        ([], {}),
    ],
)
def test_folders(folders, found):
    assert split_folders(folders) == found


def test_two_folders_of_one_split_are_refused():
    with pytest.raises(ValueError, match='expected one folder for the split val, got val and valid'):
        split_folders(['train', 'valid', 'val'])
