"""The parts of a page."""

import base64
import hashlib
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from html_pages import read_page

import hybridcls.apis.report as report
from hybridcls.apis.report.html_page import _HEAT, _PAPER, Matrix, Section, Table, render

TEMPLATE = (Path(report.__file__).parent / 'page.html').read_text(encoding='utf8')
LIGHT, DARK, PRINT = (
    dict(re.findall(r'--([\w-]+): (#\w+)', block)) for block in re.findall(r':root \{(.*?)\}', TEMPLATE, re.DOTALL)
)


def contrast(one, other):
    """WCAG 2.2, of two colours such as #1b1f24."""

    def luminance(colour):
        colour = ''.join(2 * digit for digit in colour[1:]) if len(colour) == 4 else colour[1:]
        channels = [int(colour[place : place + 2], 16) / 255 for place in (0, 2, 4)]
        linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_standard():
    assert contrast('#000', '#ffffff') == pytest.approx(21)
    assert contrast('#767676', '#ffffff') == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize('theme', [LIGHT, {**LIGHT, **DARK}, {**LIGHT, **PRINT}], ids=['light', 'dark', 'print'])
def test_colours_can_be_read(theme):
    for text, ground in itertools.product(('ink', 'soft', 'accent'), ('paper', 'card')):
        assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
    for line in ('c1', 'c2', 'c3', 'c4', 'c5', 'c6', 'grey', 'heat'):  # graphics
        assert contrast(theme[line], theme['paper']) >= 3, line


def test_ink_of_a_matrix_can_be_read_on_any_shade():
    assert (LIGHT['heat'], DARK['heat']) == _HEAT
    assert (LIGHT['paper'], DARK['paper']) == _PAPER
    shares = np.linspace(0.005, 1, 100).reshape(10, 10)
    for _, cells in Matrix('m', [str(k) for k in range(10)], shares).rows:
        for _, shade, inks in cells:
            for ink, heat, paper in zip(inks.split(), _HEAT, _PAPER, strict=True):
                mixed = [
                    round(float(shade) * int(heat[k : k + 2], 16) + (1 - float(shade)) * int(paper[k : k + 2], 16))
                    for k in (1, 3, 5)
                ]
                ground = '#' + ''.join(f'{value:02x}' for value in mixed)
                assert contrast({'k': '#000000', 'w': '#ffffff'}[ink[1]], ground) >= 4.5


def test_empty_cells_are_dashes():
    assert Table('t', ['a'], [[None], [0]]).rows == [['-'], [0]]
    assert '<td>-</td>' in render('t', 's', [Section('x', 'X', tables=[Table('t', ['a'], [[None]])])])


def test_a_browser_runs_the_script_of_the_page_alone():
    html = render('</title><script>alert(1)</script>', 's', [Section('x', '<script>alert(2)</script>')])
    scripts = re.findall(r'<script>(.*?)</script>', html, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)[1]
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert html.index('Content-Security-Policy') < html.index('<style>')


def test_long_tables_have_a_filter_and_all_heads_are_buttons():
    def page(rows, **more):
        return render(
            't', 's', [Section('x', 'X', tables=[Table('t', ['a', 'b'], [[k, k] for k in range(rows)], **more)])]
        )

    assert page(21).count('type="search"') == 1
    assert page(20).count('type="search"') == 0
    assert page(2).count('<button type="button">') == 2
    assert page(2, sorts=False).count('<button type="button">') == 0


def test_everything_of_a_section_is_on_the_page():
    section = Section(
        'x', 'X', says=['Said.'], cards=[dict(name='n', value='1', interval='i', what='w')],
        matrix=Matrix('The matrix', ['a<b', 'c'], np.eye(2)), details=[dict(title='More', text='a < b', open=True)],
        groups=[dict(title='G', pictures=[
            dict(image=None, alt='none', caption='c'), dict(image='data:,', alt='d', caption='e')])],
        map=dict(alt='the map', dots=[dict(x=1, y=2, wrong=True, title='<t>')], pictures=[]),
    )  # fmt: skip
    html = render('t', 's', [section])
    page = read_page(html)
    assert page.ids == ['x', 'h-x']
    for text in ('Said.', 'aria-label="The matrix"', '<bdi>a&lt;b</bdi>', '<details open', 'a &lt; b</pre>',
                 'aria-label="none"', 'alt="d"', 'aria-label="the map"', 'title="&lt;t&gt;"'):  # fmt: skip
        assert text in html
    assert '<td class="lw dk" style="--a:1.00">100</td>' in html


def test_a_name_that_is_not_utf8_leaves_a_page_that_is():
    html = render('gr\udcfcn', '', [])
    assert html.encode('utf8').decode('utf8').count('gr\ufffdn') == 2  # title and heading
