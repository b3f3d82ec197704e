"""The images of a training: by its record, where they are now, or by its config."""

from pathlib import Path

import numpy as np
import pytest
from trained_checkpoints import CLASSES, CNN, LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.audit.audited_images import training_images
from hybridcls.structures.sample_record import SampleRecord


def write_record(folder, root, classes=CLASSES):
    one = np.zeros((1, 2), np.float16)
    record = SampleRecord(
        paths=[f'{root}/one/1.png', f'{root}/two/2.png'], labels=np.array([0, 2], np.int32), classes=list(classes),
        root=root, epochs=np.zeros(1, np.int32), loss=one, margin=one, other=one.astype(np.int32),
        seen=np.ones(2, np.int32), means={},
    )  # fmt: skip
    (folder / 'sample_record.npz').write_bytes(record.content())


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    path = write_checkpoint(tmp_path_factory.mktemp('w') / 'epoch_1.pth', config_of(CNN, LINEAR))[0]
    return hybridcls.load(path, 'cpu')


def test_a_record_names_them(model, tmp_path):
    folder = Path(model.checkpoint_path).parent
    write_record(folder, '/old')
    found = training_images(model)
    assert found.names() == ['one/1.png', 'two/2.png']
    assert [item.label for item in found.items] == ['one', 'two']
    assert 'The images are not where they were (/old/one/1.png)' in found.notes[1]
    (tmp_path / 'one').mkdir()
    (tmp_path / 'one' / '1.png').touch()
    moved = training_images(model, str(tmp_path))
    assert moved.items[0].path == str(tmp_path / 'one' / '1.png')
    assert moved.names() == ['one/1.png', 'two/2.png']
    assert found.part(found.items[1:]).record.paths == ['/old/two/2.png']
    write_record(folder, '/old', ('a', 'b', 'c', 'd'))
    with pytest.raises(ValueError, match='The record in this folder is of another training'):
        training_images(model)
