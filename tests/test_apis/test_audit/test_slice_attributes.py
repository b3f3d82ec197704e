"""The groups that are compared: thresholds as they are written, bounded numbers, no group twice."""

import numpy as np

from hybridcls.apis.audit.slice_attributes import (
    FEWEST,
    Attribute,
    cluster_attributes,
    column_attribute,
    folder_attributes,
    look_attributes,
    pairs_of,
    slices_of,
)
from hybridcls.datasets.image_measures import ImageMeasures


def check(slices):
    assert slices
    keys = [one.members.tobytes() for one in slices]
    assert len(set(keys)) == len(keys)
    for one in slices:
        assert FEWEST <= one.members.sum() <= len(one.members) - FEWEST


def test_numbers_are_divided_where_the_condition_says():
    values = np.random.default_rng(0).random(200) * 100
    values[3] = np.nan
    found = slices_of(Attribute('x', values, 'little', 'much'))
    check(found)
    for one in found:
        words = one.condition.split()
        if len(words) == 3:
            expected = values < float(words[2]) if words[1] == '<' else values >= float(words[2])
            assert one.adjective == ('little' if words[1] == '<' else 'much')
        else:
            expected = (values >= float(words[0])) & (values < float(words[4]))
        np.testing.assert_array_equal(one.members, expected)
        assert len(words[2].replace('.', '')) <= 3  # digits


def test_two_heaps_are_divided_between_them():
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(0.1, 0.01, 33), generator.normal(0.7, 0.05, 167)])
    low = slices_of(Attribute('brightness', values, 'dark', 'bright'))[0]
    assert low.members.sum() == 33
    assert low.name.startswith('dark images (brightness < 0.')


def test_columns_are_numbers_or_categories():
    hours = [str(k % 24) for k in range(100)]
    assert column_attribute('hour', hours).is_numeric
    assert not column_attribute('year', ['2001', '2002'] * 50).is_numeric  # few values are categories
    assert not column_attribute('id', [*hours[:-1], 'unknown']).is_numeric
    assert np.isnan(column_attribute('hour', [*hours, '']).values[-1])
    missing = column_attribute('hour', [*hours, 'NA', 'n/a', 'null', '-', 'nan', ' None '])
    assert np.isnan(missing.values[-6:]).all()
    names = slices_of(column_attribute('camera', ['A'] * 50 + ['B'] * 46 + [''] * 4 + ['C'] * 3))
    assert [one.condition for one in names] == ['camera A', 'camera B']
    assert slices_of(column_attribute('id', [f'image {k}' for k in range(100)])) == []
    assert slices_of(Attribute('x', np.ones(100))) == []


def test_folders_that_are_the_classes_say_nothing():
    paths = [f'/data/{name}/{when}/{k}.jpg' for name in ('cat', 'dog') for when in ('day', 'night') for k in range(3)]
    labels = np.repeat([0, 1], 6)
    assert [sorted(set(one.values)) for one in folder_attributes(paths, labels)] == [['day', 'night']]
    assert folder_attributes([None, None], np.array([0, 1])) == []


def test_looks_of_images_that_cannot_be_read():
    seen = ImageMeasures(0.5, 0.1, 0.2, 0.3, 100.0, 1.5, camera='Box')
    found = {one.name: one.values.tolist() for one in look_attributes([seen, None])}
    assert found['shorter side'][0] == 100
    assert np.isnan(found['shorter side'][1])
    assert found['camera'] == ['Box', '']


def test_pairs_are_bounded_and_those_of_brought_columns_come_first():
    generator = np.random.default_rng(0)
    slices = [one for name in 'abc' for one in slices_of(Attribute(name, generator.random(300)))]
    brought = slices_of(column_attribute('camera', list(generator.choice(['X', 'Y'], 300))))
    found = pairs_of([*slices, *brought], 20)
    check(found)
    assert len(found) == 20
    assert all('camera' in one.attributes for one in found)
    every = pairs_of([*slices, *brought], 1000)
    assert 20 < len(every) < 1000
    assert all(len(set(one.attributes)) == 2 for one in every)
    assert pairs_of([], 10) == []


def test_clusters_are_named_after_their_classes():
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    embeddings = generator.normal(size=(100, 4)) * 0.1 + np.eye(4)[labels] * 5
    norm, clusters = cluster_attributes(embeddings, labels, ['cat', 'dog'])
    np.testing.assert_allclose(norm.values, np.linalg.norm(embeddings, axis=1))
    for value in set(clusters.values):
        inside = labels[clusters.values == value]
        assert len(set(inside)) == 1
        assert value.endswith(f'({len(inside)} of {len(inside)} are {["cat", "dog"][inside[0]]})')
    assert [one.name for one in cluster_attributes(embeddings[:9], labels[:9], ['cat', 'dog'])] == [norm.name]
