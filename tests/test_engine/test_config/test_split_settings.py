"""The key data_split."""

import pytest
from mmengine.config import Config

from hybridcls.engine.config.split_settings import SplitSettings, split_settings


def test_what_is_given_and_what_is_not():
    assert split_settings(Config(dict())) == SplitSettings(0.2, 0.0, 0, True, None, None)
    given = dict(val=0.1, test=0.2, seed=4, near_duplicates=False, folds=5, fold=2)
    assert split_settings(Config(dict(data_split=given))) == SplitSettings(**given)


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (dict(vall=0.1), "data_split: unknown key 'vall'. Did you mean 'val'"),
        (dict(val=0), r'data_split: expected val in \(0, 1\), got 0'),
        (dict(val=20), r'expected val in \(0, 1\), got 20'),
        (dict(val=0.5, test=0.5), 'expected shares that leave images for the training, got val=0.5 and test=0.5'),
        (dict(seed=0.5), 'expected seed to be an integer'),
        (dict(folds=1), r'expected folds in \[2, inf\), got 1'),
        (dict(folds=3), 'expected fold to be an integer, got None .*start it with --folds'),
        (dict(folds=3, fold=4), r'expected fold in \[1, 3\], got 4'),
    ],
)
def test_wrong_values(given, message):
    with pytest.raises((TypeError, ValueError), match=message):
        split_settings(Config(dict(data_split=given)))


def test_it_is_written_as_it_is_typed():
    assert str(SplitSettings()) == 'val=0.2, seed=0'
    assert str(SplitSettings(test=0.1, seed=2)) == 'val=0.2, test=0.1, seed=2'
    assert str(SplitSettings(folds=5, fold=1)) == 'folds=5, seed=0'
