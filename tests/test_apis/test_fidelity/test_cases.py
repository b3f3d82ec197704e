"""Every case notices a change and knows its source; the files of the cases have tests that run them."""

import re

import pytest

from hybridcls.apis.fidelity import CASES, Official, case_of, chosen_cases
from hybridcls.apis.fidelity.case_comparison import deviation
from hybridcls.apis.fidelity.stored_numbers import stored_numbers

IDS = [case.name for case in CASES]


def test_names_are_unique_and_sources_are_told():
    assert len(set(IDS)) == len(IDS)
    for case in CASES:
        assert isinstance(case.against, Official) == (case.expected is None), case.name
        if isinstance(case.against, Official):
            assert re.fullmatch('[0-9a-f]{8}', case.against.commit), case.name
        assert case.paper == 'no paper' or re.search(r'arXiv \d{4}\.\d{5}|doi |LFW', case.paper), case.name


@pytest.mark.parametrize('case', [case for case in CASES if case.expected is None], ids=lambda case: case.name)
def test_stored_numbers_are_not_all_zero_and_a_change_of_one_is_noticed(case):
    expected = stored_numbers(case.numbers_of or case.name)
    assert any(abs(values).max() > 1e-3 for values in expected.values())
    largest = max(expected.values(), key=lambda values: abs(values).max())
    changed = largest.copy()
    changed.flat[abs(changed).argmax()] *= 1 + 10 * case.tolerance32
    assert deviation(changed, largest) > case.tolerance32 >= case.tolerance


def test_cases_are_chosen_by_name_part_kind_and_pattern():
    assert chosen_cases([]) == CASES
    assert chosen_cases(['cbam']) == [case_of('CBAM')]
    assert {case.kind for case in chosen_cases(['stage'])} == {'stage'}
    assert {case.name for case in chosen_cases(['MSAM*'])} == {'MSAM', 'MSAM, AdamW', 'MSAM, AdamW with decay'}
    assert chosen_cases(['sub-center', 'cbam']) == [case_of('Sub-center ArcFace'), case_of('CBAM')]
    assert {case.name for case in chosen_cases(['friendly'])} >= {'FriendlySAM', 'FriendlySAM, AdamW'}
    with pytest.raises(ValueError, match=r"got 'ArcFce'. Did you mean 'ArcFace'"):
        chosen_cases(['ArcFce'])
