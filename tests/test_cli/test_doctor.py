"""``hybridcls doctor``: exit codes, JSON, the contact sheet."""

import json

import pytest
from command_runs import run_command
from made_images import class_folders, picture, save
from mmengine.logging import MMLogger, print_log
from PIL import Image

from hybridcls.engine.runner.global_instances import isolated_globals


@pytest.fixture
def images(tmp_path):
    class_folders(tmp_path / 'images' / 'train', cat=6, dog=6)
    for number, name in enumerate(('cat', 'dog')):
        for image in range(3):
            save(picture(50_000 + 100 * number + image), tmp_path, 'images', 'val', name, f'{image}.png')
    return tmp_path / 'images'


def test_data_alone(images, capfd):
    assert run_command('doctor', '--data', images) == 0
    out = capfd.readouterr().out
    assert '18 images, all checked' in out
    assert '0 problems, 0 warnings' in out


def test_exit_codes_and_json(images, capfd):
    picture(9, (5, 5)).save(images / 'train' / 'cat' / '1.png')
    assert run_command('doctor', '--data', images) == 0
    assert run_command('doctor', '--data', images, '--strict') == 1
    capfd.readouterr()
    (images / 'train' / 'dog' / '1.png').write_bytes(b'none')
    assert run_command('doctor', '--data', images, '--json') == 1
    told = json.loads(capfd.readouterr().out)
    assert told['counts']['problem'] == 1
    assert told['counts']['warning'] == 1
    (problem,) = [one for one in told['findings'] if one['level'] == 'problem']
    assert problem['where'] == 'train_dataloader.dataset'
    assert 'on_unreadable' in problem['change']
    assert told['facts']['images']['found'] == 18


@pytest.mark.slow
def test_a_contact_sheet_is_written_once(images, tmp_path, capfd):
    words = ('finetune/full', '--data', images, '--model', 'test_resnet', '--img-size', 32, '--cfg-options',
             'pretrained=False', '--out', tmp_path / 'sheet.png')  # fmt: skip
    assert run_command('doctor', *words) == 0, capfd.readouterr().out
    assert Image.open(tmp_path / 'sheet.png').width > 200
    assert run_command('doctor', *words) == 2
    assert '--force' in capfd.readouterr().err


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        ([], 'expected a config, or --data FOLDER'),
        (['--data', 'nowhere'], "'nowhere' does not exist"),
        (['digits/ce_hybird'], 'digits/ce_hybrid'),
        (['digits/ce_hybrid', '--images', '0'], 'of 1 or more'),
        (['digits/ce_hybrid', '--lr', '--no-trial'], 'Leave --no-trial out'),
        (['digits/ce_hybrid', '--out', 'sheet.jpg'], '.png'),
    ],
)
def test_what_cannot_be_asked(words, told, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command('doctor', *words) == 2
    assert told in capfd.readouterr().err


def test_the_groups_of_parameters_are_not_printed(tmp_path, capfd, monkeypatch):
    """A logger that is older than the doctor holds the console itself."""
    monkeypatch.chdir(tmp_path)
    with isolated_globals():
        MMLogger.get_instance('an older one', log_level='INFO')
        print_log('A logger of mmengine is there.', 'current')
        assert 'A logger' in capfd.readouterr().out
        assert run_command('doctor', 'digits/ce_vit', '--no-trial', '--cfg-options', 'batch_size=8') == 0
        out = capfd.readouterr().out
        assert 'Groups of parameters' not in out
        assert {line.split()[0] for line in out.splitlines()} <= {'note', 'warning', '->', '0'}
        print_log('It speaks again.', 'current')
        assert 'It speaks again.' in capfd.readouterr().out
