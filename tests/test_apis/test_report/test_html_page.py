"""The parts of a page."""

from hybridcls.apis.report.html_page import Section, Table, render


def test_empty_cells_are_dashes():
    assert Table('t', ['a'], [[None], [0]]).rows == [['-'], [0]]
    assert '<td>-</td>' in render('t', 's', [Section('x', 'X', tables=[Table('t', ['a'], [[None]])])])
