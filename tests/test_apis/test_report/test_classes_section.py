"""A row a class, the one without images too."""

from answered_images import answered

from hybridcls.apis.report.classes_section import classes_section
from hybridcls.apis.report.numbers import class_numbers


def test_each_class_has_a_row():
    table = class_numbers(answered([0, 0, 0, 1], [0, 0, 1, 1], classes=3), ['a', 'b', 'c'])[0]
    rows = {row[0]: row for row in classes_section(table).tables[0].rows}
    assert rows['a'][1:3] == [3, '66.7']
    assert rows['b'][2:5] == ['100.0', '2.5 to 100.0', '50.0']
    assert rows['c'][1:4] == [0, '-', '-']
