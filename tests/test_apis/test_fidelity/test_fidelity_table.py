"""The table in the terminal, and that of docs/fidelity.md, which the cases make."""

import re
from pathlib import Path

import torch

from hybridcls.apis.fidelity import (
    CASES,
    NOT_COMPARED,
    Comparison,
    Place,
    case_of,
    case_text,
    compare,
    comparison_text,
    page_rows,
    summary,
)  # fmt: skip

PAGE = Path(__file__).resolve().parents[3] / 'docs' / 'fidelity.md'
MEASURED = re.compile(r'\| (\de[-+]\d\d) of (\de[-+]\d\d) \| (\de[-+]\d\d) of (\de[-+]\d\d) \|$')


def done(case, deviation, **keys):
    return Comparison(case, deviation, 1e-9, seconds=0.5, **keys)


def without_measured(row):
    """A row without what depends on the machine."""
    return MEASURED.sub(r'| \2 | \4 |', row)


def test_the_page_is_that_of_the_cases():
    exact = [[Comparison(case, 0.0, case.tolerance_in(dtype)) for case in CASES]
             for dtype in (torch.float64, torch.float32)]  # fmt: skip
    expected = [without_measured(row) for row in page_rows(exact, NOT_COMPARED)]
    between = PAGE.read_text(encoding='utf8').partition('<!-- fidelity: begin -->\n')[2]
    found = [without_measured(row) for row in between.partition('\n<!-- fidelity: end -->')[0].split('\n')]
    assert found == expected, 'docs/fidelity.md is old: python tools/fidelity_numbers.py --page'


def test_what_the_page_measured_is_within_what_is_allowed():
    rows = [row for row in PAGE.read_text(encoding='utf8').split('\n') if row.startswith('| **')]
    assert len(rows) == len(CASES)
    for row in rows:
        double, allowed, single, allowed32 = map(float, MEASURED.search(row).groups())
        assert (double <= allowed, single <= allowed32) == (True, True), row


def test_the_lines_of_a_comparison():
    case = case_of('CBAM')
    comparisons = [
        done(case, 3e-16), done(case, 0.5), done(case, None, problem='RuntimeError: no kernel'),
        done(case, None, problem='needs peft', skipped=True),
    ]  # fmt: skip
    lines = list(comparison_text(comparisons))
    assert [line[:4].strip() for line in lines if 'CBAM, arXiv' in line] == ['ok', 'FAR', 'FAR', '-']
    text = '\n'.join(lines)
    assert 'ok     3.0e-16    1e-09  CBAM: CBAM, arXiv 1807.06521' in text
    assert 'against Jongchan/attention-module 459efad0 MODELS/cbam.py' in text
    assert 'failed: RuntimeError: no kernel' in text
    assert 'skipped: needs peft' in text
    expected = '4 cases here: 1 within the allowed deviation, 2 beyond it, 1 skipped; 2.0 s.'
    assert summary(comparisons, 'here') == expected
    assert 'identity_init=False' in case_text(case)[-1]


def test_lines_come_as_soon_as_they_are_there():
    made = []

    def slowly():
        for name in ('CBAM', 'SumFusion'):
            made.append(name)
            yield compare(case_of(name), Place(torch.device('cpu'), torch.float64))

    lines = comparison_text(slowly())
    assert not made
    next(lines), next(lines)
    assert made == ['CBAM']
