"""What a page says of rejection."""

from answered_images import answered

from hybridcls.apis.report.numbers import rejection_numbers
from hybridcls.apis.report.trust_section import trust_section


def sections(unknown_surest):
    known = answered([0, 1] * 5, [0, 1] * 5, surest=0.8)
    unknown = answered([-1] * 10, [0] * 10, surest=unknown_surest)
    return trust_section(known, unknown, rejection_numbers(known, unknown, ['a', 'b']))


def test_a_score_that_tells_nothing_is_named_so():
    assert len(sections(0.1).says) == 1
    assert 'AUROC 100.0 %' in sections(0.1).says[0]
    said = sections(0.95).says
    assert 'AUROC 0.0 %' in said[0]
    assert said[1].startswith('This is not clearly better than chance')


def test_without_unknown_images_there_is_no_table():
    section = trust_section(answered([0, 1], [0, 1]), None, [])
    assert (len(section.charts), section.tables, section.says) == (1, [], [])
