"""The record of a phase is written in one step and read back."""

import json

import pytest

from hybridcls.engine.phases.record import PhaseRecord

RECORD = PhaseRecord(
    'supcon', 'f', {'model.type': "'A'"}, {'last': 'epoch_1.pth'}, {'val/top1': 97.5}, 61.2, after='x', identity='y'
)


@pytest.mark.parametrize('finished', [True, False])
def test_it_is_read_as_it_was_written(tmp_path, finished):
    assert PhaseRecord.read(tmp_path, finished) is None
    RECORD.write(tmp_path, finished)
    assert PhaseRecord.read(tmp_path, finished) == RECORD
    assert PhaseRecord.read(tmp_path, not finished) is None


def test_a_finished_phase_has_no_note_that_it_runs(tmp_path):
    RECORD.write(tmp_path, finished=False)
    RECORD.write(tmp_path, finished=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['phase.json']


@pytest.mark.parametrize('text', ['{', '[]', json.dumps(dict(name='a', nothing=1))])
def test_another_file_is_an_error_that_says_what_to_remove(tmp_path, text):
    (tmp_path / 'phase.json').write_text(text)
    with pytest.raises(ValueError, match=f'phase.json is not a record of a phase .*remove the folder {tmp_path}'):
        PhaseRecord.read(tmp_path)
