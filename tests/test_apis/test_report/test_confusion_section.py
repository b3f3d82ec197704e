"""Which classes a matrix of confusions shows, and in which order."""

import numpy as np
from answered_images import answered

from hybridcls.apis.report.confusion_section import confusion_section, shown_classes
from hybridcls.apis.report.numbers import class_numbers


def test_few_classes_keep_their_order():
    matrix = np.full((20, 20), 3.0)
    assert shown_classes(matrix).tolist() == list(range(20))


def test_confused_classes_come_together():
    matrix = np.diag(np.full(30, 10.0))
    partners = [(k, 29 - k) for k in range(15)]  # far from each other by number
    for one, other in partners:
        matrix[one, other] = matrix[other, one] = 4
    order = shown_classes(matrix).tolist()
    assert sorted(order) == list(range(30))
    assert all(abs(order.index(one) - order.index(other)) == 1 for one, other in partners)


def test_of_many_classes_both_ends_of_the_most_frequent_confusions_are_shown():
    matrix = np.diag(np.full(1302, 10.0))
    pairs = [(1300 - 7 * k, 3 * k) for k in range(20)]
    for one, other in pairs:
        matrix[one, other] = 5
    matrix[1301, 1299] = 1  # less frequent
    assert sorted(shown_classes(matrix).tolist()) == sorted({one for pair in pairs for one in pair})


def test_a_section_says_how_much_of_the_errors_it_shows():
    labels = np.repeat(np.arange(50), 2)
    predicted = labels.copy()
    predicted[::2] = (labels[::2] + 1) % 50  # 50 errors, one a class
    known = answered(labels, predicted, classes=50)
    names = [f'class {k}' for k in range(50)]
    section = confusion_section(class_numbers(known, names)[1], known, names)
    assert section.says[0].startswith('The matrix shows 40 of 50 classes')
    assert 'with 39 of all 50 errors' in section.says[0]
    assert {share for row in section.matrix.shares for share in row} == {0.0, 0.5}
    assert len(section.tables[0].rows) == 50
    assert section.tables[0].title == 'Confused pairs, the most frequent first'
    some = confusion_section(class_numbers(known, names)[1][:7], known, names)
    assert some.tables[0].title.endswith(': 7 of 50')


def test_without_an_error_there_is_no_table_of_pairs():
    section = confusion_section([], answered([0, 1], [0, 1]), ['a', 'b'])
    assert section.says[0] == 'No image is predicted as another class.'
    assert section.tables == []
    assert np.array_equal(section.matrix.shares, np.eye(2))
