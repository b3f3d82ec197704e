"""An ablation as a table."""

from ablation_results import METRICS, made_effects

from hybridcls.apis.ablation import table_of


def test_a_row_an_arm():
    lines = table_of(made_effects(), METRICS).splitlines()
    assert [line.split()[0] for line in lines] == ['arm', 'sam', 'broken']
    assert lines[1].split()[:3] == ['sam', 'base', '+1.67']
    assert 'x 2.00' in lines[1]
    assert '+0 ..' not in lines[1]  # the NLL never differs: an interval would have no width
    assert lines[2].split() == ['broken', 'base', *['-'] * 8, 'harmful']


def test_for_a_page():
    lines = table_of(made_effects(), METRICS, markdown=True).splitlines()
    assert len({line.count('|') for line in lines}) == 1
    assert lines[1].startswith('| --- |')
