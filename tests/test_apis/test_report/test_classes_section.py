"""A row a class, the one without images too."""

from answered_images import answered

from hybridcls.apis.report.classes_section import classes_section
from hybridcls.apis.report.numbers import class_numbers


def test_each_class_has_a_row():
    table = class_numbers(answered([0, 0, 0, 1], [0, 0, 1, 1], classes=3), ['a', 'b', 'c'])[0]
    rows = {row[0]: row for row in classes_section(table).tables[0].rows}
    assert rows['a'][1:3] == [3, '66.7']
    # 1 of 1 and 1 of 2 by Clopper and Pearson: 0.025 ** (1 / 1); 1 - 0.975 ** (1 / 2) and 0.975 ** (1 / 2)
    assert rows['b'][2:7] == ['100.0', '2.5 to 100.0', 2, '50.0', '1.3 to 98.7']
    assert rows['c'][1:4] == [0, '-', '-']


def test_a_note_says_what_there_is_little_of():
    table = class_numbers(answered([0] * 12 + [1] * 12, [0] * 22 + [1] * 2, classes=2), ['a', 'b'])[0]
    assert [row[-1] for row in classes_section(table).tables[0].rows] == ['', 'few predictions']
    table = class_numbers(answered([0] * 22 + [1] * 2, [0] * 12 + [1] * 12, classes=2), ['a', 'b'])[0]
    assert [row[-1] for row in classes_section(table).tables[0].rows] == ['', 'few images']
