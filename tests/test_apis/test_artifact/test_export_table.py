"""Every kind of backbone, head and lever is exported as the table of docs/export.md says, or refused in a sentence."""

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from exportable_models import CASES, EXPORTED, SECTIONS, write_case

pytest.importorskip('onnxscript', reason="needs the extra export: pip install 'hybridcls[export]'")

PAGE = Path(__file__).parents[3] / 'docs' / 'export.md'


def table_of(page):
    """The rows (name, result) of the table, by section."""
    text = page.split('<!-- the table -->')[1].split('<!-- end of the table -->')[0]
    rows, section = {}, None
    for line in text.splitlines():
        if line.startswith('### '):
            section = rows.setdefault(line[4:], {})
        elif re.match(r'\| (?!---)', line) and not line.startswith('| |'):
            name, result = (cell.strip() for cell in line.strip('| ').split(' | '))
            section[name] = result
    return rows


def test_the_table_has_every_case():
    rows = table_of(PAGE.read_text(encoding='utf8'))
    assert {section: list(cases) for section, cases in rows.items()} == {
        section: list(cases) for section, cases in SECTIONS.items()
    }
    for name, case in CASES.items():
        shown = next(cases[name] for cases in rows.values() if name in cases)
        assert shown == EXPORTED if case.result == EXPORTED else case.result in shown, name


@pytest.mark.nightly
@pytest.mark.parametrize('name', CASES)
def test_it_is_exported_or_refused(name, tmp_path):
    from hybridcls.apis.artifact import export

    case = CASES[name]
    if case.extra and find_spec(case.extra) is None:
        pytest.skip(f'needs {case.extra}')
    path = write_case(tmp_path / 'run', case)
    if case.result != EXPORTED:
        with pytest.raises(ValueError, match=re.escape(case.result)) as error:
            export(path, tmp_path / 'artifact')
        assert '\n' not in str(error.value) and not (tmp_path / 'artifact').exists()
        return
    done = export(path, tmp_path / 'artifact')
    assert done.difference and all(np.isfinite(value) for value in done.difference.values())
    print(name, {key: f'{value:.1e}' for key, value in done.difference.items()})
