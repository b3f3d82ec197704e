"""A calibration is found beside its checkpoint, and knows it by its weights and classes."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file
from trained_checkpoints import CLASSES, CNN, LINEAR, config_of, write_checkpoint

from hybridcls.engine.checkpoints.calibration_file import (
    calibration_path,
    digest_of_weights,
    find_calibration,
    write_calibration,
)
from hybridcls.structures import Calibration


@pytest.fixture
def checkpoint(tmp_path):
    return write_checkpoint(tmp_path / 'w' / 'epoch_1.pth', config_of(CNN, LINEAR))[0]


def calibrated(checkpoint, path=None, **more):
    given = dict(classes=list(CLASSES), scaling=dict(kind='temperature', temperature=2.0))
    calibration = Calibration('epoch_1.pth', digest_of_weights(checkpoint), **{**given, **more})
    write_calibration(calibration, path or calibration_path(checkpoint))
    return calibration


def test_it_lies_beside_the_checkpoint_and_is_plain_json(checkpoint, tmp_path):
    assert find_calibration(checkpoint) is None
    calibration = calibrated(checkpoint)
    found = find_calibration(checkpoint)
    assert found == (f'{checkpoint}.calibration.json', calibration)
    assert found.why == f'Calibration {found.path}: temperature 2.000; from 0 images.'
    assert json.loads((tmp_path / 'w' / 'epoch_1.pth.calibration.json').read_text())['classes'] == list(CLASSES)
    assert find_calibration(checkpoint, False) is None
    shutil.move(found.path, tmp_path / 'mine.json')
    assert find_calibration(checkpoint) is None
    assert find_calibration(checkpoint, tmp_path / 'mine.json').calibration == calibration
    with pytest.raises(FileNotFoundError, match=r"calibration: file='none.json' does not exist"):
        find_calibration(checkpoint, 'none.json')


def test_the_digest_is_that_of_the_weights_alone(checkpoint, tmp_path):
    content = torch.load(checkpoint)
    digest = digest_of_weights(checkpoint)
    more = tmp_path / 'more.pth'
    turned = dict(reversed(content['state_dict'].items()))
    torch.save(dict(content, state_dict=turned, optimizer=dict(lr=0.1), meta=dict(epoch=7)), more)
    save_file(content['state_dict'], tmp_path / 'bare.safetensors')
    assert digest == digest_of_weights(more) == digest_of_weights(tmp_path / 'bare.safetensors')
    content['state_dict']['head.fc.bias'][1] += 1e-6
    torch.save(content, more)
    assert digest_of_weights(more) != digest


def test_a_folder_of_adapters_is_known_by_its_files(tmp_path):
    folder = tmp_path / 'adapters'
    folder.mkdir()
    (folder / 'a.json').write_text('1')
    digest = digest_of_weights(folder)
    calibrated(folder)
    assert find_calibration(folder).path == f'{folder}.calibration.json'
    assert find_calibration(f'{folder}/').calibration.weights_sha256 == digest
    (folder / 'a.json').write_text('2')
    with pytest.raises(ValueError, match=r'expected a calibration of the weights in .*adapters, got'):
        find_calibration(folder)


def test_that_of_other_weights_or_classes_is_refused(checkpoint):
    calibrated(checkpoint, classes=['one', 'two', 'three', 'zero'])
    expected = r'a calibration for the classes one, three, two, zero in .*, which is for one, two, '
    with pytest.raises(ValueError, match=expected):
        find_calibration(checkpoint)
    calibrated(checkpoint)
    content = torch.load(checkpoint)
    content['state_dict']['head.fc.bias'] += 1
    torch.save(content, checkpoint)
    with pytest.raises(ValueError, match=r'which is for other weights.*hybridcls calibrate .*--no-calibration'):
        find_calibration(checkpoint)
    assert find_calibration(checkpoint, False) is None


def test_a_damaged_file_is_a_sentence(checkpoint):
    with open(calibration_path(checkpoint), 'w') as file:
        file.write('{"format": ')
    with pytest.raises(ValueError, match=r'epoch_1.pth.calibration.json is damaged'):
        find_calibration(checkpoint)
