from pathlib import Path

import pytest

from hybridcls.apis import fidelity
from hybridcls.apis.fidelity.stored_numbers import FILE_NAME, _all_numbers, stored_numbers


def test_every_array_belongs_to_a_case_and_the_file_is_small():
    cases = {case.name for case in fidelity.CASES if case.expected is None and not case.numbers_of}
    assert {key.rpartition('/')[0] for key in _all_numbers()} == cases
    assert Path(fidelity.__file__).with_name(FILE_NAME).stat().st_size < 300_000


def test_numbers_that_are_not_there():
    with pytest.raises(KeyError, match="numbers of the case 'No such'"):
        stored_numbers('No such')
