"""The tool that runs the official codes; they are not at hand here, so that it is its list that is looked at."""

import importlib.util
import runpy
import sys
from pathlib import Path

from processes import run_process

from hybridcls.apis.fidelity import CASES

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'fidelity_numbers.py'


def test_every_stored_case_can_be_made_again():
    spec = importlib.util.spec_from_file_location('fidelity_numbers', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert set(tool.RECIPES) == {case.name for case in CASES if case.expected is None and not case.numbers_of}


def test_without_clones_it_says_what_it_expects():
    status, output = run_process(_run)
    assert status == 2
    assert 'expected CLONES, or --page' in output


def _run():
    sys.argv = [str(TOOL)]
    runpy.run_path(str(TOOL), run_name='__main__')
