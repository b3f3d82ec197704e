"""Several datasets as one: a name has one number."""

import pytest

from hybridcls.datasets import ConcatDataset, Digits


def names_of(dataset):
    return [dataset.metainfo['classes'][dataset.get_data_info(row)['gt_label']] for row in range(len(dataset))]


def parts(**more):
    return [dict(type='Digits', digits=digits, **more) for digits in ((3, 7), (1, 3), (9, 7))]


def test_classes_are_joined_in_order_and_every_image_keeps_its_name():
    both = ConcatDataset(parts())
    assert both.metainfo['classes'] == ('3', '7', '1', '9')
    alone = [Digits(digits=digits) for digits in ((3, 7), (1, 3), (9, 7))]
    assert names_of(both) == [name for dataset in alone for name in names_of(dataset)]


def test_lazily_it_is_the_same():
    lazy = ConcatDataset(parts(lazy_init=True), lazy_init=True)
    assert not lazy._fully_initialized
    lazy.full_init()
    assert lazy.metainfo['classes'] == ('3', '7', '1', '9')
    before = names_of(lazy)
    lazy.full_init()  # renumbers once
    assert names_of(lazy) == before


def test_another_difference_of_metainfo_is_refused_or_ignored():
    different = [dict(type='Digits', metainfo=dict(place=place)) for place in 'ab']
    with pytest.raises(ValueError, match='meta information'):
        ConcatDataset(different)
    for keys in ('place', ['place']):
        assert ConcatDataset(different, ignore_keys=keys).metainfo['place'] == 'a'
