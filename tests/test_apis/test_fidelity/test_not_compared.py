"""What is registered is compared, or it is told why not."""

from hybridcls.apis.fidelity import CASES, NOT_COMPARED, missing_pieces, registered_pieces
from hybridcls.registry import MODELS


def test_every_registered_part_has_a_case_or_a_reason():
    missing = missing_pieces()
    assert not missing, (
        f'{", ".join(missing)}: registered, without a case of fidelity. Add one in hybridcls/apis/fidelity/, or a '
        'reason in not_compared.py.'
    )


def test_reasons_are_of_parts_that_are_there_and_not_compared():
    names = {name for _, name in registered_pieces()}
    assert set(NOT_COMPARED) <= names
    assert not set(NOT_COMPARED) & {piece for case in CASES for piece in case.pieces}
    assert {'SAM', 'Lion', 'CBAM', 'AdaFace', 'OODMetric', 'add_lora', 'add_token_merging'} <= names


def test_a_new_part_is_missed():
    class Uncompared:
        __module__ = 'hybridcls.models.losses.uncompared'

    MODELS.register_module(name='Uncompared', module=Uncompared)
    try:
        assert missing_pieces() == ['MODELS Uncompared']
    finally:
        del MODELS.module_dict['Uncompared']
