"""The suspects on the page."""

from made_suspects import made

from hybridcls.apis.audit.suspects_section import suspects_section
from hybridcls.apis.report.html_page import render


def test_the_page_says_how_many():
    images, suspects = made()
    page = render('Audit', '', [suspects_section(images, suspects, 2)])
    assert 'Of 3 labels 2 are rather wrong' in page
    assert 'can look so with a right label' in page
    assert '\u2068&lt;script&gt;\u2069, rather \u2068日本\u2069?' in page  # however each is written
    assert '<td><script>' not in page
    assert 'The model contradicts 67 % of the labels.' in page
    none = render('Audit', '', [suspects_section(images, made(0)[1], 0)])
    assert 'no suspects' in none


def test_a_list_that_is_not_strict_needs_no_caution():
    _, suspects = made()
    suspects.strictness = 0.0
    assert suspects.caution is None
    suspects.strictness = 0.4
    assert 'contradicts 67 % of the labels' in suspects.caution
    assert '2 are listed instead of 5' in suspects.caution
    assert 'do not act' not in suspects.caution
    suspects.listed = 1
    assert '1 is listed instead of 5' in suspects.caution
