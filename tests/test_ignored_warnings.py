"""What a user can do nothing about is not shown; everything else is."""

import re
import warnings

from hybridcls.ignored_warnings import ignore_useless_warnings


def test_warnings_of_mmcv_are_ignored_and_others_are_shown():
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        ignore_useless_warnings()
        for module in ('mmcv.cnn.bricks.transformer', 'mmcv_of_another', 'hybridcls.models'):
            warnings.warn_explicit('Fail to import', UserWarning, f'{module}.py', 1, module)
    assert [re.sub(r'\.py$', '', one.filename) for one in shown] == ['mmcv_of_another', 'hybridcls.models']
