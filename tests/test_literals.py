"""Values are read as Python writes them, and nothing is run."""

import pytest

from hybridcls.literals import read_assignments, read_literal


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        (' 0.1 ', 0.1),
        ('-3', -3),
        ("[1, (2, 'x'), None, True]", [1, (2, 'x'), None, True]),
        ("{'a': dict(b={1, 2})}", {'a': {'b': {1, 2}}}),
        ('dict(type=\'SGD\', betas=(0.9, 0.99))', dict(type='SGD', betas=(0.9, 0.99))),
    ],
)  # fmt: skip
def test_literals(text, value):
    found = read_literal(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    'text',
    ["__import__('os').getcwd()", 'dict(**x)', '{**x}', 'name', "dict([('a', 1)])", '[x for x in y]', 'list(a=1)'],
)
def test_what_would_run_is_refused(text):
    with pytest.raises(ValueError, match=r'.'):
        read_literal(text)


def test_what_is_no_python_is_a_syntax_error():
    with pytest.raises(SyntaxError):
        read_literal('dict(')


def test_assignments_of_a_dump():
    text = "a = 1\nb, c = 1, 2\nd = a + 1\nmodel = dict(type='M')\nimport os\nobject.x = 3\na = [2]\n"
    assert read_assignments(text) == dict(a=[2], model=dict(type='M'))
