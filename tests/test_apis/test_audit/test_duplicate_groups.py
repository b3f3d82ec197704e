"""Duplicates, crops and leaks among pictures that are made for it."""

import numpy as np
import pytest

from hybridcls.apis.audit.duplicate_groups import Duplicates, find_duplicates, leaks_of


def test_groups(twice_found):
    found = twice_found
    groups = {(one.kind, tuple(one.training), tuple(one.held_out)) for one in found.groups}
    assert groups == {
        ('near', (1, 9), ()), ('exact', (0, 8), ()), ('exact', (2,), (0,)), ('near', (3,), (1,)), ('crop', (4,), (2,)),
    }  # fmt: skip
    assert found.groups[0].contradicts
    assert not any(one.contradicts for one in found.groups[1:])
    assert [one.is_leak for one in found.groups] == [False, True, True, True, False]
    assert found.leaked().tolist() == [0, 1, 2]
    assert found.copies() == [8]
    numbers = found.group_numbers(10)
    assert numbers[0] == numbers[8]
    assert numbers[1] == numbers[9]
    assert len(set(numbers)) == 8
    assert Duplicates().group_numbers(3).tolist() == [0, 1, 2]
    assert (found.training, found.held_out) == (10, 4)


def test_leaks_and_the_accuracy_without_them(twice_found):
    leaks = leaks_of(Duplicates(twice_found.groups), np.array([True, True, False, True] + [False] * 4))
    assert (leaks.images, leaks.leaked, leaks.accuracy, leaks.clean) == (8, 3, 3 / 8, 1 / 5)
    assert leaks.leaked_accuracy == 2 / 3
    assert leaks.change == pytest.approx(3 / 8 - 1 / 5)
    assert leaks.change_interval.low < leaks.change < leaks.change_interval.high
    assert leaks_of(Duplicates(), np.ones(4, bool)) is None


def test_without_held_out_images_and_files(twice_images):
    found = find_duplicates([*twice_images[0], None, '/no/such/file.png'], np.zeros(12, int))
    assert [one.training for one in found.groups] == [[0, 8], [1, 9]]
    assert found.training == 10
