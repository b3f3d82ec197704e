"""`hybridcls report`: what it takes, where it writes, what it refuses."""

import json
import shutil

import pytest
from command_runs import run_command
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint


@pytest.fixture
def work_dir(tmp_path, digit_folder):
    shutil.copytree(digit_folder / 'val', tmp_path / 'images')
    write_checkpoint(tmp_path / 'w' / 'epoch_1.pth', config_of(CNN, LINEAR, tmp_path / 'images'))
    return tmp_path / 'w'


def test_without_data_it_takes_what_the_config_names_and_writes_into_the_work_dir(work_dir, capfd):
    (work_dir.parent / 'images' / 'one' / 'broken.png').write_bytes(b'nothing')
    assert run_command('report', work_dir, '--device', 'cpu') == 1  # an image cannot be read
    said = capfd.readouterr().err.splitlines()
    assert said[1].startswith(
        f'The 17 test images that the config of the training names ({work_dir.parent / "images"})'
    )
    assert any(line.startswith('1 image could not be read: ') for line in said)
    assert '1 image could not be read' in (work_dir / 'report.html').read_text()
    assert len(json.loads((work_dir / 'report.json').read_text())['unreadable']) == 1
    assert run_command('report', work_dir, '--device', 'cpu', '--force', '--on-unreadable', 'error') == 2
    assert 'broken.png' in capfd.readouterr().err


def test_mistakes_are_one_sentence(work_dir, tmp_path, capfd):
    def message(*arguments):
        assert run_command('report', work_dir, '--device', 'cpu', *arguments) == 2
        return capfd.readouterr().err

    assert "report: --data '/nope' does not exist." in message('--data', '/nope')
    assert "report: --ood '/nope' does not exist." in message('--ood', '/nope')
    (tmp_path / 'empty').mkdir()
    assert f"report: expected images below '{tmp_path / 'empty'}', got none." in message('--ood', tmp_path / 'empty')
    shutil.rmtree(tmp_path / 'images')
    assert "the images of the training's test" in (said := message())
    assert 'are not there. Type --data FOLDER with labelled images that the model was not trained on.' in said
    assert not (work_dir / 'report.html').exists()
