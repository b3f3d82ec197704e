"""What a user can do nothing about is not shown; everything else is."""

import re
import subprocess
import sys
import warnings

import pytest

from hybridcls.ignored_warnings import ignore_useless_warnings


def test_warnings_of_mmcv_are_ignored_and_others_are_shown():
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        ignore_useless_warnings()
        for module in ('mmcv.cnn.bricks.transformer', 'mmcv_of_another', 'hybridcls.models'):
            warnings.warn_explicit('Fail to import', UserWarning, f'{module}.py', 1, module)
    assert [re.sub(r'\.py$', '', one.filename) for one in shown] == ['mmcv_of_another', 'hybridcls.models']


@pytest.mark.parametrize(
    'module', ['hybridcls.command_line', pytest.param('hybridcls.apis.benchmark.child', marks=pytest.mark.nightly)]
)
def test_who_imports_hybridcls_keeps_the_warnings(module):
    code = f'import sys, {module}; print("hybridcls.ignored_warnings" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.split()[-1:] == ['False']
