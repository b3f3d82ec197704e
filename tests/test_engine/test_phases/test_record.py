"""``phase.json``: written, read back, and refused."""

import json

import pytest

from hybridcls.engine.phases.record import PhaseRecord

RECORD = PhaseRecord(
    'supcon', 'f00', {'model.type': "'M'"}, {'last': 'epoch_2.pth'}, {'val/top1': 97.5}, 12.5, 'before', 'me'
)


def test_a_finished_phase_is_read_as_it_was(tmp_path):
    RECORD.write(tmp_path, finished=False)
    assert PhaseRecord.read(tmp_path) is None
    assert PhaseRecord.read(tmp_path, finished=False) == RECORD
    RECORD.write(tmp_path, finished=True)
    assert PhaseRecord.read(tmp_path) == RECORD
    assert [path.name for path in tmp_path.iterdir()] == ['phase.json']
    assert json.loads((tmp_path / 'phase.json').read_text())['metrics'] == {'val/top1': 97.5}


def test_a_folder_without_a_phase_has_no_record(tmp_path):
    assert PhaseRecord.read(tmp_path) is None


@pytest.mark.parametrize(
    'text',
    ['{"name": "supcon"', '{"name": "supcon"}', '{"nom": 1}', '[1]', '', 'null',
     '{"name": "a", "fingerprint": "", "facts": {}, "metrics": null}'],
)  # fmt: skip
def test_another_file_of_that_name_is_an_error(tmp_path, text):
    (tmp_path / 'phase.json').write_text(text)
    with pytest.raises(ValueError, match=r'phase\.json is not a record of a phase .* remove the folder'):
        PhaseRecord.read(tmp_path)
