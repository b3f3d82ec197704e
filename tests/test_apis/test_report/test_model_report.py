"""A report: its numbers are those of a test, its page is one file that holds up to odd names."""

import json
import re
import shutil

import pytest
from command_runs import run_command
from html_pages import read_page
from PIL import Image
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.report import make_report


@pytest.fixture(scope='module')
def model(tmp_path_factory, digit_folder):
    cfg = config_of(CNN, LINEAR, digit_folder / 'train')
    return write_checkpoint(tmp_path_factory.mktemp('w') / 'epoch_1.pth', cfg)[0]


def test_a_report_of_a_checkpoint(model, digit_folder, tmp_path, capfd):
    out = tmp_path / 'r.html'
    options = ('--data', digit_folder / 'val', '--ood', digit_folder / 'train', '--out', out, '--device', 'cpu')
    assert run_command('report', model, *options) == 0
    text = out.read_text(encoding='utf8')
    page = read_page(text)
    assert {address for address in page.addresses if not address.startswith(('data:', '#'))} == set()
    assert 'http' not in re.sub(r'https?://www\.w3\.org/\S+', '', text)
    assert {'numbers', 'training', 'confusion', 'images', 'classes', 'trust', 'map', 'cost'} <= set(page.ids)
    numbers = json.loads(out.with_suffix('.json').read_text())
    shown = {row['key']: row['value'] for row in numbers['headline']}
    answers = hybridcls.load(model, 'cpu')(digit_folder / 'val')
    assert len(list(answers)) == numbers['images']
    assert shown['accuracy/top1'] == pytest.approx(100 * answers.accuracy.top1)
    capfd.readouterr()
    assert run_command('report', model, *options) == 2  # it is there
    assert 'Add --force' in capfd.readouterr().err
    out.unlink()
    out.with_suffix('.json').write_text('mine')
    assert run_command('report', model, *options) == 2  # the numbers would be written over it
    assert "r.json' exists" in capfd.readouterr().err
    assert out.with_suffix('.json').read_text() == 'mine'


def test_mistakes_are_told_before_the_model_runs(model, digit_folder, tmp_path):
    loaded = hybridcls.load(model, 'cpu')
    other = tmp_path / 'others' / 'zebra'
    other.mkdir(parents=True)
    Image.new('RGB', (9, 9)).save(other / 'a.png')
    with pytest.raises(ValueError, match=r'report: expected images of the classes of the model .* got none'):
        make_report(loaded, str(other.parent))
    (tmp_path / 'none').mkdir()
    with pytest.raises(FileNotFoundError, match='report: expected images below'):
        make_report(loaded, str(digit_folder / 'val'), ood=str(tmp_path / 'none'))


def test_names_of_classes_and_files_are_text(digit_folder, tmp_path):
    names = ['<script>alert(1)</script>', 'a&b"c', 'ñandú 北京 ' * 8, "d'e"]
    data = tmp_path / 'data'
    for number, name in enumerate(names):
        safe = name.replace('/', '∕')
        shutil.copytree(sorted((digit_folder / 'val').iterdir())[number], data / safe)
    names = sorted(path.name for path in data.iterdir())
    cfg = config_of(CNN, LINEAR, data)
    path, _ = write_checkpoint(tmp_path / 'epoch_1.pth', cfg, classes=names)
    report = make_report(hybridcls.load(path, 'cpu'), str(data))
    assert '<script>alert' not in report.html
    assert '&lt;script&gt;' in report.html
    read_page(report.html)
