"""The suspects on the page."""

import numpy as np
from made_suspects import made

from hybridcls.apis.audit.suspects_section import suspects_section
from hybridcls.apis.report.html_page import render


def test_the_page_says_how_many():
    images, suspects = made()
    page = render('Audit', '', [suspects_section(images, suspects, 2)])
    assert 'About 2 of 3 labels' in page
    assert 'can look so with a right label' in page
    assert '\u2068&lt;script&gt;\u2069, rather \u2068日本\u2069?' in page  # however each is written
    assert '<td><script>' not in page
    assert 'The model contradicts 67 % of the labels.' in page
    none = render('Audit', '', [suspects_section(images, made(0)[1], 0)])
    assert 'none is a suspect' in none


def test_few_contradictions_need_no_caution():
    _, suspects = made()
    suspects.score = np.array([0.9] * 3 + [0.4] * 17)
    assert suspects.contradicted == 0.15
    assert suspects.caution is None
    suspects.score[3] = 0.6
    assert 'contradicts 20 % of the labels' in suspects.caution
