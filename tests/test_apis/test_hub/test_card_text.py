"""Text is no markup."""

from hybridcls.apis.hub.card_text import as_table, as_text


def test_marks_are_escaped():
    assert as_text('a|b\n# c') == 'a\\|b \\# c'
    assert as_text('snake_case _it_') == 'snake_case \\_it\\_'
    assert as_table(('x', 'y'), [('|', 1)]) == '| x | y |\n| --- | --- |\n| \\| | 1 |'
